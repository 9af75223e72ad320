#!/usr/bin/env bash
# RunPod over plain ssh, with one network volume. Read README.md first.
set -euo pipefail

provider=runpod
default_base=/workspace # where a network volume is mounted
provider_actions='  off                  what is still billed on this account (needs runpodctl at home)'

# The results came from $host: that it is this pod, the pod itself says.
check_machine() {
  run ssh "$host" "tr '\\0' '\\n' </proc/1/environ | grep -qx RUNPOD_POD_ID=$1" ||
    die "$host does not say that it is pod $1; look at both in the console"
}

# runpodctl keeps its key in its own file; it stands on no command line.
terminate_machine() {
  if [ -z "$DRY_RUN" ] && ! command -v runpodctl >/dev/null; then
    die "runpodctl is not installed here: terminate pod $1 in the console (the bin, not the square)"
  fi
  run runpodctl pod delete "$1"
}

off() {
  run runpodctl pod list --all
  run runpodctl network-volume list
  run runpodctl user
  echo "Off means: no pod in the list, and currentSpendPerHr is 0, or the volume's share if you keep it."
}

off_checklist() {
  cat <<'TEXT'
Now make sure, in this order:
  1. runpod.sh off: no pod is listed, stopped ones included.
  2. The console's Pods page is empty too.
  3. The network volume is billed as long as it exists. Done for good? Then
     runpodctl network-volume delete VOLUME_ID
  4. Look at the balance tomorrow: it is the same, or less by the volume's share.
TEXT
}

provider_action() {
  [ "$1" = off ] || die "unknown action $1; see --help"
  off
}

# shellcheck source=home.sh disable=SC1091
. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/home.sh"
main "$@"
