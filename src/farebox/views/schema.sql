-- The tables of the ledger: facts of the log, typed, each with the sequence it stands at. Rows are only ever added; what
-- supersedes what is said by the views (views.sql). Times are stream time, ms since 1970. NULL: the fact does not say.

-- Which log the rows come from, up to which sequence they hold all of it, and how to know that log again (core/trail.py).
CREATE OR REPLACE TABLE ledger (
    shape VARCHAR NOT NULL, created VARCHAR NOT NULL, seq BIGINT NOT NULL, id VARCHAR NOT NULL, before VARCHAR NOT NULL,
    digest VARCHAR NOT NULL);

CREATE OR REPLACE TABLE submissions (
    seq BIGINT NOT NULL, at_ms BIGINT NOT NULL, chain VARCHAR NOT NULL, task VARCHAR NOT NULL, batch VARCHAR,
    label VARCHAR, type VARCHAR, platform VARCHAR, model VARCHAR, priority BIGINT, bytes BIGINT, tags VARCHAR);

CREATE OR REPLACE TABLE routes (
    seq BIGINT NOT NULL, at_ms BIGINT NOT NULL, chain VARCHAR NOT NULL, task VARCHAR NOT NULL, attempt BIGINT NOT NULL,
    candidates VARCHAR, rejected VARCHAR);

-- What quota said about a task: reserved, deferred (due_ms: when it looks again) or refused.
CREATE OR REPLACE TABLE quota_words (
    seq BIGINT NOT NULL, at_ms BIGINT NOT NULL, fact VARCHAR NOT NULL, chain VARCHAR NOT NULL, task VARCHAR NOT NULL,
    attempt BIGINT NOT NULL, platform VARCHAR, due_ms BIGINT, reason VARCHAR);

CREATE OR REPLACE TABLE starts (
    seq BIGINT NOT NULL, at_ms BIGINT NOT NULL, chain VARCHAR NOT NULL, task VARCHAR NOT NULL, attempt BIGINT NOT NULL,
    batch VARCHAR, platform VARCHAR NOT NULL, model VARCHAR, billing VARCHAR NOT NULL, worktree VARCHAR);

-- TaskCompleted, AttemptFailed, AttemptInterrupted, LateResult.
CREATE OR REPLACE TABLE endings (
    seq BIGINT NOT NULL, at_ms BIGINT NOT NULL, fact VARCHAR NOT NULL, chain VARCHAR NOT NULL, task VARCHAR NOT NULL,
    attempt BIGINT NOT NULL, batch VARCHAR, platform VARCHAR NOT NULL, model VARCHAR, billing VARCHAR NOT NULL,
    charged VARCHAR NOT NULL, status VARCHAR, error_class VARCHAR, message VARCHAR, duration_ms BIGINT,
    usage STRUCT(input_tokens BIGINT, output_tokens BIGINT, cached_tokens BIGINT, cache_write_tokens BIGINT,
                 cache_write_1h_tokens BIGINT, reasoning_tokens BIGINT, source VARCHAR),
    output VARCHAR, output_ref VARCHAR, partial_output VARCHAR, partial_ref VARCHAR, files_created VARCHAR,
    files_changed VARCHAR, files_more BOOLEAN, worktree VARCHAR, base_commit VARCHAR, tried VARCHAR);

CREATE OR REPLACE TABLE charges (
    seq BIGINT NOT NULL, at_ms BIGINT NOT NULL, chain VARCHAR NOT NULL, task VARCHAR NOT NULL, attempt BIGINT NOT NULL,
    batch VARCHAR, platform VARCHAR NOT NULL, model VARCHAR, billing VARCHAR NOT NULL, status VARCHAR NOT NULL,
    paid_usd DECIMAL(38, 12), plan_value_usd DECIMAL(38, 12), provider_usd DECIMAL(38, 12),
    usage STRUCT(input_tokens BIGINT, output_tokens BIGINT, cached_tokens BIGINT, cache_write_tokens BIGINT,
                 cache_write_1h_tokens BIGINT, reasoning_tokens BIGINT, source VARCHAR),
    unit_prices VARCHAR, price_list VARCHAR, price_model VARCHAR, late BOOLEAN NOT NULL, cause VARCHAR);

CREATE OR REPLACE TABLE batch_submissions (
    seq BIGINT NOT NULL, at_ms BIGINT NOT NULL, batch VARCHAR NOT NULL, count BIGINT, parallel BIGINT,
    fail_fast BOOLEAN, source VARCHAR);

CREATE OR REPLACE TABLE batch_ends (seq BIGINT NOT NULL, at_ms BIGINT NOT NULL, batch VARCHAR NOT NULL, as_of_seq BIGINT);

CREATE OR REPLACE TABLE cancels (
    seq BIGINT NOT NULL, at_ms BIGINT NOT NULL, chain VARCHAR NOT NULL, task VARCHAR NOT NULL, reason VARCHAR);

-- Facts that no view is made of.
CREATE OR REPLACE TABLE other_facts (seq BIGINT NOT NULL, at_ms BIGINT NOT NULL, fact VARCHAR NOT NULL);

-- What stands in the log and is no fact, or lies about itself, or is newer than this program (`newer`: it may be read one day).
CREATE OR REPLACE TABLE quarantine (
    seq BIGINT NOT NULL, at_ms BIGINT NOT NULL, subject VARCHAR NOT NULL, reason VARCHAR NOT NULL, newer BOOLEAN NOT NULL);
