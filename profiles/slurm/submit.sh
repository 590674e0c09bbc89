#!/usr/bin/env bash
# Runs Snakemake itself as a SLURM job, if login nodes forbid long processes. From the project's folder:
#   sbatch profiles/slurm/submit.sh
#   sbatch --time=2-00:00:00 --mail-type=END --mail-user=YOU profiles/slurm/submit.sh --configfile my.yaml
# Arguments after the script's name go to `snakemake --profile profiles/slurm`; for another profile: PROFILE=profiles/site sbatch ...
# Ten minutes before its own time limit it stops Snakemake, whose trainings write checkpoints, and requeues itself to resume from there.
#SBATCH --job-name=alexbench
#SBATCH --cpus-per-task=1
#SBATCH --mem=4000
#SBATCH --time=1-00:00:00
#SBATCH --signal=B:TERM@600
#SBATCH --requeue
#SBATCH --open-mode=append
set -u

if [ -d .venv/bin ]; then
    PATH=$PWD/.venv/bin:$PATH
fi

stopped=
stop() {
    stopped=yes
    echo "$(date '+%F %T') the time limit is near: ending Snakemake"
    kill -INT "$snakemake"
}
trap stop TERM

# A background process ignores SIGINT unless its handler is reset.
python -c 'import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])' \
    snakemake --profile "${PROFILE:-profiles/slurm}" "$@" &
snakemake=$!
status=
while kill -0 "$snakemake" 2> /dev/null; do
    # A signal interrupts `wait`.
    wait "$snakemake"
    status=$?
done

if [ -n "$stopped" ] && [ "$status" -ne 0 ]; then
    echo "$(date '+%F %T') back into the queue"
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
