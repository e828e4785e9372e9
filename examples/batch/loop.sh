#!/bin/sh
# A study in shards without a batch system: sh loop.sh SCENARIO SHARDS FOLDER
#
# All shards run at the same time, each in one process, and write into one folder. Stop it whenever
# you like, and start it again: it does what is missing. The shard that ends last prints the summary.
scenario=$1
n_shards=$2
folder=$3

trap 'kill $runs' INT TERM HUP

shard=1
while [ "$shard" -le "$n_shards" ]; do
    mcsim run "$scenario" -o "$folder" -j 1 --shard "$shard/$n_shards" &
    runs="$runs $!"
    shard=$((shard + 1))
done

worst=0
for run in $runs; do
    wait "$run"
    code=$?
    [ "$code" -gt "$worst" ] && worst=$code
done
exit "$worst"
