//! Many nodes, each with a part of the roles, on one PostgreSQL and one Redis, behind a front that routes as the Ingress
//! of `k8s/` does. `tests/backends.sh cargo nextest run --test cluster` starts both.

#![expect(clippy::unwrap_used, reason = "a server that does not answer has failed the test")]

mod clients;
mod elsewhere;
mod emergencies;
mod refusals;
mod rig;
mod story;
