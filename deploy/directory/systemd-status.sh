#!/bin/sh
# Says how a unit of systemd is, as the connector `directory` asks (rollouts/connectors/directory.py).
#
#     systemd-status.sh billing.service
#
# InvocationID is another one with each start (systemd.exec(5), $INVOCATION_ID).
which=$(systemctl show --value --property=InvocationID "$1") || exit 4
state=$(systemctl show --value --property=ActiveState "$1") || exit 4
case $state in
active) echo "$which" ;;
activating | reloading | refreshing) echo "$which"; exit 75 ;;
failed) printf '%s\n-\nThe unit failed (%s).\n' "$which" "$(systemctl show --value --property=Result "$1")"; exit 3 ;;
inactive | deactivating) exit 3 ;;
*) echo "The unit is in the state “$state”."; exit 4 ;;
esac
