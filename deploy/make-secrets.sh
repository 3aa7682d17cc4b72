#!/bin/sh
# Makes the secrets that docker-compose.yml mounts; run it as root, once. What is there already is kept.
#
#   sudo sh deploy/make-secrets.sh [folder] [owner]       default: secrets, and 10001, the portal's user in the image
#
# Only root may look into the folder. The files in it are readable, because a container gets single files of them, each
# program under its own user; the vault's key belongs to the portal alone, which refuses one that others may read.
# Keep a copy of vault-key.json away from this machine and from its backups.
set -eu
umask 077
folder=${1:-secrets}
owner=${2:-10001}

mkdir -p "$folder"
chmod 0700 "$folder"
cd "$folder"

random() { head -c "$1" /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

# keep NAME MODE: what comes on standard input becomes the file, whole or not at all, unless there is one.
keep() {
    if [ -e "$1" ]; then
        cat > /dev/null
    else
        cat > ".$1.new"
        chmod "$2" ".$1.new"
        mv ".$1.new" "$1"
        echo "Made $folder/$1."
    fi
}

random 48 | keep secret-key 0444
random 24 | keep database-password 0444
random 24 | keep broker-password 0444
printf countersign | keep storage-access-key 0444
random 24 | keep storage-secret-key 0444

# The same passwords in the form that the other side wants them. The hosts are the services of docker-compose.yml.
printf 'postgresql://countersign:%s@postgres:5432/countersign' "$(cat database-password)" | keep database-url 0444
printf 'redis://:%s@valkey:6379/0' "$(cat broker-password)" | keep broker-url 0444
printf 'requirepass %s\n' "$(cat broker-password)" | keep broker.conf 0444

if [ ! -e vault-key.json ]; then
    id="local/$(date -u +%Y-%m-%d)-$(random 3)"
    key=$(head -c 32 /dev/urandom | base64)
    printf '{"format": 1, "active": "%s", "keys": {"%s": "%s"}}\n' "$id" "$id" "$key" | keep vault-key.json 0400
fi
if ! chown "$owner" vault-key.json 2> /dev/null; then
    echo "$folder/vault-key.json must belong to user $owner; run this as root." >&2
    exit 1
fi
