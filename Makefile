# Thin: every target says what it does and how long each step took. The work is in .ci/.
.PHONY: help setup build guests demo how-long test test-postgres test-ways test-all test-clients test-browser setup-browser setup-postgres screenshots test-examples test-package soak chaos fuzz bench bench-long bench-peers bench-dashboard lint clean

help:
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## make Rust able to build for WebAssembly
	@.ci/step "setup" .ci/setup

# What is missing for the guests is said before anything is built: the host takes a quarter of an hour at first.
build: setup ## build the host, optimised, with its own debug assertions
	@.ci/step "build the host" cargo build --release --locked --workspace --bin perennial

guests: setup ## build the samples and the tests' guests to components
	@.ci/step "build the guests" .ci/guests

demo: how-long build guests ## run a workflow over this repository, kill its host half-way, and see it finish
	@.ci/step "demo" .ci/demo

how-long:
	@.ci/how-long

test: build guests ## every test that fits fifteen minutes
	@.ci/step "test" cargo test --release --locked --workspace --no-fail-fast
	@PERENNIAL_TEST_STORE=memory .ci/step "test the engine on a store in memory" cargo test --release --locked --workspace --lib engine::tests
	@PERENNIAL_TEST_STORE=partitions .ci/step "test engines that share the partitions of a hub" cargo test --release --locked --workspace --lib engine::tests

test-postgres: build guests ## the tests of the engine and of the whole with hubs in PostgreSQL, and hosts and servers that die, where its programs are there; 10 minutes
	@.ci/step "test the engine on PostgreSQL" .ci/postgres

test-ways: build guests ## what depends on how a guest was built, once more by each other way to build that this machine has
	@.ci/step "test the ways to build guests" .ci/ways

test-all: build guests ## every test, the long ones too
	@PERENNIAL_LONG=1 .ci/step "test, all" cargo test --release --locked --workspace --no-fail-fast
	@PERENNIAL_LONG=1 .ci/step "test the engine on PostgreSQL, all" .ci/postgres
	@.ci/step "mutations" .ci/mutations

test-clients: build guests ## the published clients of Durable Functions and the Durable Task SDKs against a running host, where Python or Node is there
	@.ci/step "test the clients" .ci/clients

test-browser: build guests ## a browser over the dashboard of a running host, where Chromium and Node are there
	@.ci/step "test the dashboard in a browser" .ci/browser

screenshots: build guests ## the pictures of the README, made anew
	@.ci/step "screenshots" .ci/browser screenshots

setup-postgres: ## install PostgreSQL on Debian, for the tests of hubs in it
	@.ci/step "install PostgreSQL" .ci/setup-postgres

setup-browser: ## install Chromium on Debian, for test-browser
	@.ci/step "install Chromium" .ci/setup-browser

test-examples: build guests ## the examples of the library, run
	@.ci/step "examples" .ci/examples

test-package: build ## what is published: packed, built from what is packed, and used to make and build a project
	@.ci/step "test the packages" .ci/package

SOAK_MINUTES ?= 30
soak: build guests ## a host under a mixed load for SOAK_MINUTES (30): memory and open files must not grow
	@PERENNIAL_SOAK_SECONDS=$$(($(SOAK_MINUTES) * 60)) .ci/step "soak" cargo test --release --locked --workspace --test soak -- --nocapture

CHAOS_ROUNDS ?= 300
chaos: build guests ## hosts of a hub in PostgreSQL and its server are killed, stopped and cut off, CHAOS_ROUNDS (300) times; 45 minutes
	@PERENNIAL_CHAOS_ROUNDS=$(CHAOS_ROUNDS) .ci/step "chaos" cargo test --release --locked --workspace --test chaos -- --nocapture whatever_dies

FUZZ_SECONDS ?= 60
fuzz: ## coverage-guided fuzzers of deployed bytes and of guests' answers, FUZZ_SECONDS (60) each; builds for some minutes at first
	@FUZZ_SECONDS=$(FUZZ_SECONDS) .ci/step "fuzz" .ci/fuzz

bench: guests ## measure the workloads W1 to W6 and W9, and hubs in PostgreSQL, against the limits of this machine, and write tests/bench/report.md; 20 minutes at most
	@.ci/step "bench" cargo bench --locked --workspace --bench suite

bench-long: guests ## the long workloads W7 and W8 too, and then turns, replay and purges; 20 minutes more
	@.ci/step "bench, long" cargo bench --locked --workspace --bench suite -- long
	@.ci/step "bench, turns" cargo bench --locked --workspace --bench turns
	@.ci/step "bench, purges" cargo bench --locked --workspace --bench purge

bench-peers: guests ## hello-sequence in turn with the other engines that tests/bench/peers/install installed
	@.ci/step "build the host as it is measured" .ci/measured
	@.ci/step "bench, peers" cargo bench --locked --workspace --bench suite -- peers

bench-dashboard: build guests ## each page of the dashboard over a million instances, and what ten viewers cost a busy host and an idle one; 10 minutes, where Node and sqlite3 are there
	@.ci/step "bench, dashboard" .ci/bench-dashboard

lint: ## what CI checks beside the tests
	@.ci/lint

clean: ## forget everything that was built
	cargo clean
