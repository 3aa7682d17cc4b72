#!/bin/sh
# Says how an nginx is, as the connector `directory` asks (rollouts/connectors/directory.py).
#
#     nginx-status.sh /run/nginx.pid
#
# A reload keeps the master process and starts new workers, so the newest worker is what identifies a start.
pid=$(cat "$1" 2>/dev/null) && [ -d "/proc/$pid" ] || exit 3
workers=$(cat "/proc/$pid/task/$pid/children" 2>/dev/null)
[ -n "$workers" ] || exit 75
newest=${workers% }
newest=${newest##* }
# Its start time (proc(5), field 22), because numbers are given out again. The name in field 2 is nginx, without blanks.
since=$(cut -d ' ' -f 22 "/proc/$newest/stat" 2>/dev/null) || exit 75
echo "$newest-$since"
