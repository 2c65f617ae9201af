#!/bin/sh
# In the virtual machine: runs what is asked for on its second serial line. A line there is a number; the script is
# /job/NUMBER, and what it says goes beside it.
stty -F /dev/ttyS1 raw -echo
exec </dev/ttyS1 >/dev/ttyS1
echo "fleet-vm: up"
while read -r number; do
    code=0
    sh "/job/$number" </dev/null >"/job/$number.out" 2>"/job/$number.err" || code=$?
    echo "fleet-vm: $number ended with $code"
done
