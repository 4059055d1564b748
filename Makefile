# credyt_pg: what one can do here. `make` alone lists it.
.PHONY: help demo report test test-clients bench growth capacity soak replay release install uninstall installcheck deb dist stage clean
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

# The Postgres that stage, demo, bench and replay take, and those that test goes through: the first two in full. The 17 is
# compiled with the declarations that pgrx was published with, since no package registry has a 17 with its headers.
PG ?= 18
PG_VERSIONS ?= 18 15 16 17
PG_CONFIG ?= pg_config

help:            ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1\t/p' Makefile | expand -t 22

demo:            ## build, start a throwaway Postgres, run examples/demo.sql on it (KEEP=1 leaves it running)
	@scripts/demo.sh $(PG) $(KEEP)

report:          ## the pictures of the demo as one HTML page, target/report.html
	@pg_config=$$(scripts/env.sh $(PG)); scripts/build.sh $$pg_config install
	@scripts/step.sh "Building the report" cargo build --example report
	@scripts/server.sh run $$(scripts/env.sh $(PG)) -- scripts/demo.sh report target/report.html

test:            ## every test, on each Postgres of PG_VERSIONS (18 15 16 17)
	@tests/all.sh $(PG_VERSIONS)

test-clients:    ## one program for each client of docs/clients.md, on Postgres 18 (CLIENTS="psycopg pg" for some)
	@pg_config=$$(scripts/env.sh $(PG)); scripts/build.sh $$pg_config install
	@scripts/server.sh run $$(scripts/env.sh $(PG)) -- tests/clients/run.sh $(CLIENTS)

bench:           ## what a debit costs, beside the floor and by hand (ARGS="--long"; OTHER=commit: that library in turns with this)
	@pg_config=$$(scripts/env.sh $(PG)); scripts/build.sh $$pg_config install
	@scripts/step.sh "Building the benchmark" cargo build --release --example bench
	@pg_config=$$(scripts/env.sh $(PG)); $(if $(OTHER),other=$$(scripts/other.sh $(OTHER) $$pg_config);) \
		$(if $(OTHER),scripts/server.sh run $$other -- bash -c 'CREDYT_OTHER=$$CREDYT_URL exec "$$@"' -) \
		scripts/server.sh run $$pg_config -- cargo run -q --release --example bench -- $(ARGS)

growth:          ## how reports of margin grow with the ledger, up to 10 million rows (10 GB, half an hour)
	@pg_config=$$(scripts/env.sh $(PG)); scripts/build.sh $$pg_config install
	@scripts/step.sh "Building the measurement" cargo build --release --example growth
	@scripts/server.sh run $$(scripts/env.sh $(PG)) -- cargo run -q --release --example growth -- $(ARGS)

capacity:        ## what one server does with many wallets and a long ledger, dump and restore included (ARGS=copies: 71428 takes 60 GB)
	@pg_config=$$(scripts/env.sh $(PG)); scripts/build.sh $$pg_config install
	@scripts/server.sh run $$(scripts/env.sh $(PG)) -- examples/capacity.sh $(or $(ARGS),1000)

soak:            ## everything at once at a fixed rate, with an old snapshot held (ARGS="--minutes 60"; 3 by default)
	@pg_config=$$(scripts/env.sh $(PG)); scripts/build.sh $$pg_config install
	@scripts/step.sh "Building the soak" cargo build --release --example soak
	@scripts/server.sh run $$(scripts/env.sh $(PG)) -- cargo run -q --release --example soak -- $(ARGS)

replay:          ## replay an hour of real LLM traffic at real rates (TRACE=azure_llm_trace.csv, RATES=genai_prices.json)
	@[ -f "$(TRACE)" ] || { echo "Which trace? make replay TRACE=path/of/azure_llm_trace.csv"; exit 2; }
	@pg_config=$$(scripts/env.sh $(PG)); scripts/build.sh $$pg_config install
	@scripts/step.sh "Building the replay" cargo build --release --example replay
	@scripts/server.sh run $$(scripts/env.sh $(PG)) -- cargo run -q --release --example replay -- "$(TRACE)" \
		$(if $(RATES),--rates "$(RATES)") $(ARGS)

release:         ## freeze the install script of this version for ever (docs/upgrade.md says what comes before and after)
	@scripts/releases.sh freeze

install:         ## into your Postgres 15 to 18 (PG_CONFIG=/path/to/pg_config)
	@scripts/build.sh "$(PG_CONFIG)" install
	@echo "Installed for $$("$(PG_CONFIG)" --version). In a database: CREATE EXTENSION credyt_pg;"

uninstall:       ## out of your Postgres again (PG_CONFIG=/path/to/pg_config)
	@scripts/build.sh "$(PG_CONFIG)" uninstall

installcheck:    ## the SQL tests on your running Postgres with the extension installed (PG_CONFIG=, PGHOST= ...)
	@tests/regress.sh "$(PG_CONFIG)"

deb:             ## a Debian package for your Postgres, in target/dist (PG_CONFIG=/path/to/pg_config)
	@packaging/package.sh "$(PG_CONFIG)" deb

dist:            ## all packages: Debian's, an archive of the files, the source for PGXN, and their checksums (PG_CONFIG=)
	@packaging/package.sh "$(PG_CONFIG)" deb tar pgxn

stage:           ## build and put the extension into the private Postgres of this checkout (PG=18)
	@pg_config=$$(scripts/env.sh $(PG)); scripts/build.sh $$pg_config install; echo "$$pg_config"

clean:           ## remove everything that was built or fetched
	@rm -rf target
