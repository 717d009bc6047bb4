# What people do with this repository. `make test` and `make demo` need nothing but Rust to begin with.

.PHONY: help demo test prove faults load lint serve

help: ## what there is to make
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: ## show cima at work on a real track, with no server installed
	cargo run --quiet -- demo --exit-when-done

serve: ## run the server on the embedded store in ./cima-data
	cargo run -- serve

test: ## every test; sets up by itself what it needs
	tests/run.sh

prove: ## every test with the long proofs at their full counts
	CIMA_PROVE=1 tests/run.sh

faults: ## the table of faults in README.md, played anew; some 30 minutes
	cargo build --release --workspace --bin cima --bin cima-rig
	tests/backends.sh target/release/cima-rig --full --write README.md

load: ## cima beside a bare sink: latency, memory and throughput; some 7 minutes
	cargo build --release --workspace
	target/release/cima-loadtest all --rounds 3

lint: ## format, lints, documentation, and what the packages underneath may be
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
	tests/deny.sh
