#!/bin/sh
# Makes the certificates of tests/process.rs: an authority, and two for localhost. Valid for 100 years; of no use elsewhere.
set -eu
cd "$(dirname "$0")"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj '/CN=sealvec test authority' \
    -keyout ca.key -out ca.pem
for name in one two; do
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout $name.key -out $name.csr
    printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n' > ext
    openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -days 36500 -extfile ext -out $name.pem
done
rm -f ca.key ext ./*.csr ./*.srl
