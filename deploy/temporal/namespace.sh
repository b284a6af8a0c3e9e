#!/bin/sh
# Waits for Temporal, then creates the namespace if it is not there. Safe to run
# again. TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE and RETENTION say where and what.
set -eu
: "${TEMPORAL_ADDRESS:?}" "${TEMPORAL_NAMESPACE:?}" "${RETENTION:?}"

tries=0
until temporal operator cluster health --address "$TEMPORAL_ADDRESS" >/dev/null 2>&1; do
	tries=$((tries + 1))
	if [ "$tries" -ge 60 ]; then
		echo "namespace: $TEMPORAL_ADDRESS did not become healthy in 2 minutes" >&2
		exit 1
	fi
	sleep 2
done
if temporal operator namespace describe --address "$TEMPORAL_ADDRESS" --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1; then
	echo "namespace: $TEMPORAL_NAMESPACE is there"
else
	temporal operator namespace create --address "$TEMPORAL_ADDRESS" --namespace "$TEMPORAL_NAMESPACE" --retention "$RETENTION"
fi
