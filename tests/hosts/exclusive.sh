#!/bin/sh
# The member that must never run twice. The lock is the kernel's: it goes with the last process that has it open.
name=$(uname -n) # now: at the stop, systemd's signal would reach a newly forked command too
exec 9>>/srv/shared/lock
if ! flock --nonblock 9; then
    echo "conflict $name" >>/srv/shared/log
    exit 1
fi
echo "start $name" >>/srv/shared/log
systemd-notify --ready
trap 'echo "stop $name" >>/srv/shared/log; exit 0' TERM
sleep infinity &
wait
