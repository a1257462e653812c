#!/bin/sh
# The member that must never run twice. The lock is the kernel's: it goes with the last process that has it open.
exec 9>>/srv/shared/lock
if ! flock --nonblock 9; then
    echo "conflict $(hostname)" >>/srv/shared/log
    exit 1
fi
echo "start $(hostname)" >>/srv/shared/log
systemd-notify --ready
trap 'echo "stop $(hostname)" >>/srv/shared/log; exit 0' TERM
sleep infinity &
wait
