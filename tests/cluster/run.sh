#!/usr/bin/env bash
# Plays the stories of the foreign clients against five real processes on PostgreSQL and Redis, one for each role and a
# second for tracking, behind a front that routes by path as the Ingress of k8s/ does:
#
#     tests/cluster/run.sh
#
# Both are started for it where CIMA_TEST_DATABASE_URL and CIMA_TEST_REDIS_URL do not name them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec tests/backends.sh cargo test --quiet --test cluster clients -- --ignored --nocapture
