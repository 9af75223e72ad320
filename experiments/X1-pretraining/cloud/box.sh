#!/usr/bin/env bash
# On the rented machine: install, run the lab beside its watchdog, show how it does.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: box.sh [--dry-run] ACTION [OPTIONS]      on the rented machine, in the clone of the project

  setup                make the virtual environment in $X1_VENV (default: ~/x1-venv)
  start OPTIONS        `run` in a tmux session, which outlives your connection
  run OPTIONS          the lab in the foreground; run again, it attaches or resumes
  status               the card, the end of the log, the watchdog, the account
  jupyter              JupyterLab on this machine's loopback, port 8888, in tmux
  stop                 save and end the run; the machine stays, and is billed
  meter                write what this machine has cost by now into the ledger, idle hours too
  last                 likewise, with the three minutes that its end may take
  ledger FILE          take up a ledger that was sent from home

options of start and run:
  --lab NAME           lab00, the one run, or lab01, the sweep of sizes (default: lab00)
  --hours X            ceiling of the run [hours] (required)
  --usd-per-hour X     what this machine costs (required; 0 only with --cpu)
  --source TEXT        embedded, a text file, or a prepared folder (default: embedded)
  --param NAME=VALUE   any other parameter of the lab, or setting of the trainer; repeatable
  --cap-usd X          of all labs together (default: what the ledger records, else 50)
  --billed-since T     seconds since 1970 (default: the start of this machine)
  --terminate CMD      lab00: how the watchdog ends the machine: runpod, lambda, or a command
                       (default: it ends the trainer only)
  --when-done CMD      how to end the machine when the lab is over, well or badly (default: keep it)
  --bucket FOLDER      lab00: a mounted bucket: restore from it at the start, copy to it on the way
  --cpu                do not insist on a CUDA device

A key stands in ~/.x1-secrets (mode 600) if anywhere, never on a command line.
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=common.sh disable=SC1091
. "$here/common.sh"
project=$(cd "$here/../../.." && pwd)
venv=${X1_VENV:-$HOME/x1-venv}
python=$venv/bin/python
lab=experiments/X1-pretraining
folder=$lab/run-cloud
session=${X1_TMUX:-x1}
lock=papermill_runs/.box.lock
sweep_pid=papermill_runs/.sweep.pid # of lab01 at work
# Prepared text is dear to make twice: beside the project, so on the volume where there is one.
export X1_DATA=${X1_DATA:-$(dirname "$project")/data}

if [ "${1:-}" = --dry-run ]; then
  DRY_RUN=1
  shift
fi
action=${1:---help}
[ $# -eq 0 ] || shift
cd "$project"
if [ -r ~/.x1-secrets ]; then
  set -a
  # shellcheck disable=SC1090
  . ~/.x1-secrets
  set +a
fi

# The Makefile wants Python 3.11 or newer with venv; where an image has none, uv brings one.
set_up() {
  local one found=''
  for one in python3.11 python3.12 python3.13 python3; do
    if "$one" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      found=$one
      break
    fi
  done
  if [ -z "$found" ]; then
    run python3 -m pip install --quiet --user uv
    run python3 -m uv python install 3.12
    if [ -n "$DRY_RUN" ]; then found=python3.12; else found=$(python3 -m uv python find 3.12); fi
  fi
  run make setup "VENV=$venv" "PYTHON=$found"
}

lab_name=lab00 hours='' price='' source_text='' cap='' since='' terminate='' when_done='' bucket=''
cpu='' params=()
options() {
  while [ $# -gt 0 ]; do
    [ "$1" = --cpu ] || [ $# -gt 1 ] || die "$1 needs a value; see --help"
    case $1 in
      --lab) lab_name=$2 ;;
      --hours) hours=$2 ;;
      --usd-per-hour) price=$2 ;;
      --source) source_text=$2 ;;
      --param)
        [[ $2 =~ ^[a-z_0-9]+=. ]] || die "--param is '$2'; expected NAME=VALUE, such as shape=50m"
        params+=("$2")
        ;;
      --cap-usd) cap=$2 ;;
      --billed-since) since=$2 ;;
      --terminate) terminate=$2 ;;
      --when-done) when_done=$2 ;;
      --bucket) bucket=$2 ;;
      --cpu)
        cpu=1
        shift
        continue
        ;;
      *) die "unknown option $1; see --help" ;;
    esac
    shift 2
  done
  [[ $lab_name =~ ^lab0[01]$ ]] || die "--lab is $lab_name; expected lab00 or lab01"
  if [ "$lab_name" = lab01 ]; then
    [ -z "$terminate" ] || die "--terminate is for lab00's watchdog; a sweep ends by its own hours and" \
      "money, and --when-done ends the machine after it"
    [ -z "$bucket" ] || die "--bucket is for lab00; a sweep goes on from the disk it was on"
  fi
  [ -n "$hours" ] || die "--hours is missing: the ceiling of the run, such as --hours 0.25"
  [ -n "$price" ] || die "--usd-per-hour is missing: the price that the provider shows for this machine"
  number --hours "$hours" 24
  [[ $hours =~ [1-9] ]] || die "--hours is $hours, which trains nothing; give the ceiling of the run, such as 0.25"
  number --usd-per-hour "$price" 1.79
  [ -z "$cap" ] || number --cap-usd "$cap" 50
  [ -z "$since" ] || number --billed-since "$since" "$(date +%s)"
  if [[ ! $price =~ [1-9] ]] && [ -z "$cpu" ]; then
    die "--usd-per-hour is 0; on a rented machine give its price, or no cap can hold"
  fi
}

# A GPU machine whose driver is older than this torch trains on its CPU, at the GPU's price.
need_cuda() {
  [ -n "$cpu" ] || [ -n "$DRY_RUN" ] || "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
    die "torch sees no CUDA device here (nvidia-smi says which driver there is): terminate this" \
      "machine and take one with a newer driver, or give --cpu"
}

# The lab starts the watchdog beside the trainer, which inherits this. A command that cannot work is
# found now, and not at the hour when it is needed.
check_terminate() {
  local one
  for one in "$terminate" "$when_done"; do
    [ -z "$one" ] || [ -n "$DRY_RUN" ] || "$python" - "$one" <<'PYTHON' || die "nothing was started"
import sys
from x1lib import exit_code_of
from x1lib.watchdog import terminator

sys.exit(exit_code_of(lambda: print("to end this machine:", terminator(sys.argv[1]).check())))
PYTHON
  done
  [ -z "$terminate" ] || run export "X1_TERMINATE=$terminate"
}

papermill() {
  local parameters=(-p hours "$hours" -p source "${source_text:-embedded}" -p usd_per_hour "$price" -p out "$folder")
  [ -z "$cap" ] || parameters+=(-p cap_usd "$cap")
  [ -z "$since" ] || parameters+=(-p billed_since "$since")
  local one
  for one in "${params[@]}"; do parameters+=(-p "${one%%=*}" "${one#*=}"); done
  cd notebooks
  run "$venv/bin/papermill" lab00.ipynb ../papermill_runs/lab00-cloud.ipynb -k python3 "${parameters[@]}" \
    --log-output --no-progress-bar --autosave-cell-every 5 \
    --execution-timeout "$(awk "BEGIN { print int(3600 * ($hours + 1)) }")"
}

# The sweep without its notebook, which at home shows what came of it. A hung one is ended half an
# hour after its hours: outside it nobody watches.
sweep() {
  local words=(run --hours "$hours" --usd-per-hour "$price") code=0 one
  [ -z "$source_text" ] || words+=(--source "$source_text")
  [ -z "$cap" ] || words+=(--cap-usd "$cap")
  [ -z "$since" ] || words+=(--billed-since "$since")
  for one in ${params[@]+"${params[@]}"}; do
    local name=${one%%=*}
    words+=("--${name//_/-}" "${one#*=}")
  done
  words=(timeout --signal=TERM --kill-after=300
    "$(awk "BEGIN { print int(3600 * ($hours + 0.5)) }")" "$python" -m x1lib.sweep "${words[@]}")
  printf '+ %s\n' "$(quoted "${words[@]}")"
  [ -z "$DRY_RUN" ] || return 0
  "${words[@]}" &
  echo $! >"$sweep_pid"
  wait $! || code=$?
  rm -f "$sweep_pid"
  return "$code"
}

# It saves what is at work; the same start goes on from there.
stop_sweep() {
  local pid
  [ -e "$sweep_pid" ] || return 0
  read -r pid <"$sweep_pid"
  run kill -TERM "$pid" || true
  while [ -z "$DRY_RUN" ] && kill -0 "$pid" 2>/dev/null; do sleep 1; done
}

run_lab() {
  need_cuda
  check_terminate
  mkdir -p papermill_runs
  exec 9>"$lock"
  flock -n 9 || die "the lab is being run already: 'box.sh status', or tmux attach -t $session"
  [ -z "$bucket" ] || run "$python" "$here/bucket.py" restore "$folder" "$bucket"
  local copier='' code=0
  if [ -n "$bucket" ]; then
    printf '+ %s &\n' "$(quoted "$python" "$here/bucket.py" follow "$folder" "$bucket")"
    if [ -z "$DRY_RUN" ]; then
      "$python" "$here/bucket.py" follow "$folder" "$bucket" 9>&- &
      copier=$!
    fi
  fi
  if [ "$lab_name" = lab01 ]; then
    (sweep) 9>&- || code=$?
  else
    (papermill) 9>&- || code=$?
  fi
  if [ "$code" -ne 0 ] && [ "$lab_name" = lab00 ] && [ -n "$bucket$when_done" ]; then # nobody will come back to it
    run "$python" -m x1lib.launch stop "$folder" || true
  fi
  if [ -n "$copier" ]; then
    kill -TERM "$copier"
    wait "$copier" || code=$?
  fi
  [ -z "$when_done" ] || end_machine
  return "$code"
}

# As the watchdog does it: the same templates, tried until it works.
end_machine() {
  meter --ending || true
  printf '+ end this machine: %s\n' "$when_done"
  [ -n "$DRY_RUN" ] || "$python" - "$when_done" <<'PYTHON'
import sys, time
from x1lib.watchdog import terminator

command = terminator(sys.argv[1])
wait = 2.0
while True:
    worked, said = command.attempt()
    print(said, flush=True)
    if worked:
        break
    time.sleep(wait)
    wait = min(2 * wait, 300.0)
PYTHON
}

# No process of ours counts the hours in which none is at work; this does, when it is asked.
meter() {
  [ ! -e "$lab/ledger.jsonl" ] || run "$python" -m x1lib.budget_guard "$lab/ledger.jsonl" "$1"
}

status() {
  if command -v nvidia-smi >/dev/null; then
    run nvidia-smi --query-gpu=name,utilization.gpu,memory.used --format=csv,noheader || true
  fi
  local log
  for log in papermill_runs/lab0?-cloud.log; do
    [ ! -e "$log" ] || run tail -n 3 "$log"
  done
  [ ! -e "$folder/train.log" ] || run tail -n 5 "$folder/train.log"
  [ ! -e "$folder/watchdog.log" ] || run tail -n 2 "$folder/watchdog.log"
  [ ! -e "$lab/ledger.jsonl" ] || run "$python" -m x1lib.budget_guard "$lab/ledger.jsonl"
}

jupyter_lab() {
  local root=()
  [ "$(id -u)" -ne 0 ] || root=(--allow-root) # a container's only user
  run tmux new-session -d -s "$session-jupyter" "$venv/bin/jupyter" lab --no-browser --ip=127.0.0.1 \
    --port=8888 "--ServerApp.root_dir=$project/notebooks" "${root[@]}"
  echo "In a few seconds, $venv/bin/jupyter server list  shows its address and token."
}

case $action in
  -h | --help | help) usage ;;
  setup) set_up ;;
  start)
    options "$@"
    need_cuda
    check_terminate
    if [ -z "$DRY_RUN" ] && tmux has-session -t "=$session" 2>/dev/null; then
      flock -n "$lock" true || die "the lab is at work already: tmux attach -t $session"
      tmux kill-session -t "=$session" # of a lab that is over
    fi
    run tmux new-session -d -s "$session" bash -c \
      "bash $(quoted "$here/box.sh" run "$@") 2>&1 | tee -a papermill_runs/$lab_name-cloud.log; exec bash"
    echo "The lab runs in tmux session $session. Look: tmux attach -t $session. Leave again: Ctrl-b d."
    ;;
  run)
    options "$@"
    run_lab
    ;;
  status) status ;;
  jupyter) jupyter_lab ;;
  stop)
    stop_sweep
    run "$python" -m x1lib.launch stop "$folder"
    meter --meter
    ;;
  meter) meter --meter ;;
  last) meter --ending ;;
  ledger) take_ledger "${1:?the file}" "$lab/ledger.jsonl" ;;
  *) die "unknown action $action; see --help" ;;
esac
