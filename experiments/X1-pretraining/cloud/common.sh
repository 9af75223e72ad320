# shellcheck shell=bash
# What the scripts at home and on the rented machine share. Sourced, never run.

DRY_RUN=${DRY_RUN:-}

die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 2
}

# A command as one would type it.
quoted() {
  local word line=''
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]]; then
      line+=" $word"
    elif [[ $word == *\'* ]]; then
      line+=" $(printf '%q' "$word")"
    else
      line+=" '$word'"
    fi
  done
  printf '%s' "${line# }"
}

# Say a command and run it; with --dry-run only say it.
run() {
  printf '+ %s\n' "$(quoted "$@")"
  [ -n "$DRY_RUN" ] || "$@"
}

# Take up a ledger that came from elsewhere. It only ever grows, so one of the two must be the
# beginning of the other, and the longer one stays; otherwise both stay, and a person decides.
take_ledger() {
  local came=$1 here=$2 came_bytes here_bytes
  [ -e "$came" ] || return 0
  if [ ! -e "$here" ]; then
    mv "$came" "$here"
    return
  fi
  came_bytes=$(wc -c <"$came") here_bytes=$(wc -c <"$here")
  if cmp -s -n "$((came_bytes < here_bytes ? came_bytes : here_bytes))" "$came" "$here"; then
    if ((came_bytes > here_bytes)); then mv "$came" "$here"; else rm "$came"; fi
  else
    die "$here and $came tell two stories, so money would be forgotten; the sum of both is counted" \
      "by 'python -m x1lib.budget_guard ONE --take THE_OTHER'"
  fi
}

# The account travels with the machine. Two with a copy each would spend the cap twice, so this
# says which one has it: written before anything is sent, deleted when that machine is terminated.
# Wants $project, $away, $host and $provider.
# shellcheck disable=SC2154
take_away() {
  local holder='' since=''
  [ ! -e "$project/$away" ] || read -r holder since <"$project/$away"
  if [ -n "$holder" ] && [ "$holder" != "$host" ]; then
    [[ $holder != sky-* ]] || die "the job with bucket ${holder#sky-} has the account ($since); first" \
      "'sky.sh home ${holder#sky-} FOLDER', or, if it is off for good: rm $away"
    die "machine $holder has the account ($since), and a second one could spend the cap again;" \
      "first '$provider.sh --host $holder end', or, if it is off for good: rm $away"
  fi
  [ -n "$DRY_RUN" ] || printf '%s since %s\n' "$host" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >"$project/$away"
}

# A positive number, or an error that names what it is for.
number() {
  [[ $2 =~ ^[0-9]+(\.[0-9]+)?$|^\.[0-9]+$ ]] || die "$1 is '$2'; expected a number such as $3"
}
