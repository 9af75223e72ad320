#!/usr/bin/env bash
# Lambda on demand over plain ssh; it has no spot machines. Read README.md first.
set -euo pipefail

provider=lambda
default_base=x1-files # below the user's home: the name of a filesystem, or a plain folder
provider_actions='  key ID               give the watchdog on the machine your API key and the machine'\''s ID
  off                  what is still billed on this account (needs LAMBDA_API_KEY)'

api=https://cloud.lambda.ai/api/v1

# The key goes through a pipe: neither ps nor the shell's history shows it.
ask_api() {
  printf "+ %s   # with the key of LAMBDA_API_KEY on its standard input\n" "$(quoted curl "$@")"
  [ -z "$DRY_RUN" ] || return 0
  need_key
  printf 'header = "Authorization: Bearer %s"\n' "$LAMBDA_API_KEY" | curl "$@"
  echo
}

need_key() {
  if [ -z "${LAMBDA_API_KEY:-}" ]; then
    read -rs -p 'Lambda API key (not shown): ' LAMBDA_API_KEY
    echo
  fi
  [[ $LAMBDA_API_KEY =~ ^[A-Za-z0-9_.-]+$ ]] || die "the key is empty or has odd characters"
}

# Nothing on a Lambda machine says its ID; you compare the IP address in the console.
check_machine() { :; }

terminate_machine() {
  ask_api --fail-with-body --silent --show-error --config - --header 'Content-Type: application/json' \
    --data "{\"instance_ids\": [\"$1\"]}" "$api/instance-operations/terminate"
}

off() {
  ask_api --fail-with-body --silent --show-error --config - "$api/instances"
  ask_api --fail-with-body --silent --show-error --config - "$api/file-systems"
  echo 'Off means: the first answer is {"data": []}. A filesystem in the second is billed by what lies in it.'
}

key() {
  [[ ${1:-} =~ ^[A-Za-z0-9-]+$ ]] || die "give the machine's ID, as the console shows it"
  local write='umask 077; cat > .x1-secrets'
  printf '+ %s   # with the key and the ID on its standard input\n' "$(quoted ssh "$host" "$write")"
  [ -z "$DRY_RUN" ] || return 0
  need_key
  # shellcheck disable=SC2029
  printf 'LAMBDA_API_KEY=%s\nLAMBDA_INSTANCE_ID=%s\n' "$LAMBDA_API_KEY" "$1" | ssh "$host" "$write"
}

off_checklist() {
  cat <<'TEXT'
Now make sure, in this order:
  1. lambda.sh off: no instance is listed. It may say "terminating" for a minute; ask again.
  2. The console's Instances page is empty too. A `shutdown` typed on the machine is not enough.
  3. A filesystem is billed as long as it exists. Done for good? Delete it in the console.
  4. Delete the API key if you gave it to the machine, and look at the next invoice.
TEXT
}

provider_action() {
  case $1 in
    key | off) "$@" ;;
    *) die "unknown action $1; see --help" ;;
  esac
}

# shellcheck source-path=SCRIPTDIR source=home.sh disable=SC1091
. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/home.sh"
main "$@"
