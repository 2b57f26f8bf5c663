-- Bodies of facts into the tables of schema.sql, without a Python object for each.

-- name: stage
-- Parameters: bodies, subjects, sequences and times, each joined by line feeds.
CREATE OR REPLACE TEMP TABLE stage AS
SELECT seq, at_ms, subject, unnest(TRY(from_json(body, '{
        "fact": "VARCHAR", "version": "BIGINT", "cause": "VARCHAR", "chain": "VARCHAR", "task": "VARCHAR",
        "attempt": "BIGINT", "batch": "VARCHAR", "label": "VARCHAR", "type": "VARCHAR", "platform": "VARCHAR",
        "model": "VARCHAR", "priority": "BIGINT", "bytes": "BIGINT", "tags": "JSON", "candidates": "JSON",
        "rejected": "JSON", "due_ms": "BIGINT", "reason": "VARCHAR", "billing": "VARCHAR", "charged": "VARCHAR",
        "status": "VARCHAR", "fault": {"error_class": "VARCHAR", "message": "VARCHAR"}, "duration_ms": "BIGINT",
        "usage": {"input_tokens": "BIGINT", "output_tokens": "BIGINT", "cached_tokens": "BIGINT",
                  "cache_write_tokens": "BIGINT", "cache_write_1h_tokens": "BIGINT",
                  "reasoning_tokens": "BIGINT", "source": "VARCHAR"},
        "output": "VARCHAR", "output_ref": "JSON", "partial_output": "VARCHAR", "partial_ref": "JSON",
        "files_created": "JSON", "files_changed": "JSON", "files_more": "BOOLEAN", "worktree": "VARCHAR",
        "base_commit": "VARCHAR", "tried": "JSON", "paid_usd": "VARCHAR", "plan_value_usd": "VARCHAR",
        "provider_usd": "VARCHAR", "unit_prices": "JSON", "price_list": "VARCHAR", "price_model": "VARCHAR",
        "late": "BOOLEAN", "count": "BIGINT", "parallel": "BIGINT", "fail_fast": "BOOLEAN", "source": "VARCHAR",
        "as_of_seq": "BIGINT"}')))
FROM (
    SELECT unnest(string_split($bodies, chr(10))) AS body, unnest(string_split($subjects, chr(10))) AS subject,
           unnest(string_split($seqs, chr(10)))::BIGINT AS seq, unnest(string_split($times, chr(10)))::BIGINT AS at_ms);

-- name: doubted
-- Which facts are staged, and the sequences of those rows that cannot be vouched for.
-- A row is sound when subject and body agree (core/subjects.py) and what the views count on has its shape. Every other row
-- is read again by core/wire.py, which has the last word. A field that is missing (NULL) has its default and is sound.
SELECT fact, coalesce(list(seq) FILTER (doubted), []) AS doubted FROM (
    SELECT seq, fact, NOT coalesce(subject IN (
        prefix || CASE WHEN laned THEN platform ELSE '-' END || '.' || CASE tail
            WHEN 'task' THEN chain || '.' || task WHEN 'batch' THEN batch || '.-' ELSE '-.-' END,
        other_prefix || CASE WHEN other_laned THEN platform ELSE '-' END || '.' || chain || '.' || task), false)
    OR tail <> 'task' AND (task <> '-' OR chain <> '-' AND (tail <> 'batch' OR chain <> batch))
    OR fact = 'TaskCompleted' AND platform <> '-' AND split_part(subject, '.', 5) = '-'
    OR coalesce(version, 1) <> current OR attempt NOT BETWEEN 0 AND 10000
    OR fact = 'TaskCompleted' AND coalesce(status, '') NOT IN ('completed', 'failed', 'cancelled')
    OR fact = 'CostRecorded' AND status NOT IN ('priced', 'unpriced', 'estimated', 'possible')
    OR billing NOT IN ('plan', 'metered', 'free', 'rehearsal') OR charged NOT IN ('none', 'possible', 'known')
    OR NOT regexp_full_match(
        concat_ws(' ', paid_usd, plan_value_usd, provider_usd), '((^| )(0|[1-9][0-9]{0,25})(\.[0-9]{1,12})?)*')
    OR greatest(duration_ms / 10000, usage.input_tokens, usage.output_tokens, usage.cached_tokens,
                usage.cache_write_tokens, usage.cache_write_1h_tokens, usage.reasoning_tokens) > 1000000000000
    OR least(duration_ms, usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.cache_write_tokens,
             usage.cache_write_1h_tokens, usage.reasoning_tokens) < 0 AS doubted
    FROM stage LEFT JOIN said_where AS place USING (fact))
GROUP BY fact;

-- name: drop_doubted
DELETE FROM stage WHERE seq IN (SELECT unnest($seqs));

-- name: submissions
INSERT INTO submissions
SELECT seq, at_ms, chain, task, batch, label, type, platform, model, priority, bytes, tags
FROM stage WHERE fact = 'TaskSubmitted';

-- name: routes
INSERT INTO routes
SELECT seq, at_ms, chain, task, coalesce(attempt, 0), candidates, rejected FROM stage WHERE fact = 'TaskRouted';

-- name: quota_words
INSERT INTO quota_words
SELECT seq, at_ms, fact, chain, task, coalesce(attempt, 0), platform, due_ms, coalesce(reason, fault.message)
FROM stage WHERE fact IN ('QuotaReserved', 'QuotaDeferred', 'QuotaRefused');

-- name: starts
INSERT INTO starts
SELECT seq, at_ms, chain, task, coalesce(attempt, 0), batch, platform, model, coalesce(billing, 'metered'),
       worktree
FROM stage WHERE fact = 'TaskStarted';

-- name: endings
INSERT INTO endings
SELECT seq, at_ms, fact, chain, task, coalesce(attempt, 0), batch, coalesce(platform, '-'), model,
       coalesce(billing, 'metered'), coalesce(charged, 'none'), status, fault.error_class, fault.message, coalesce(duration_ms, 0),
       usage, output, output_ref, partial_output, partial_ref, files_created, files_changed, files_more,
       worktree, base_commit, tried
FROM stage WHERE fact IN ('TaskCompleted', 'AttemptFailed', 'AttemptInterrupted', 'LateResult');

-- name: charges
INSERT INTO charges
SELECT seq, at_ms, chain, task, coalesce(attempt, 0), batch, platform, model, coalesce(billing, 'metered'),
       coalesce(status, 'unpriced'), paid_usd::DECIMAL(38, 12), plan_value_usd::DECIMAL(38, 12),
       provider_usd::DECIMAL(38, 12), usage, unit_prices, price_list, price_model, coalesce(late, false), cause
FROM stage WHERE fact = 'CostRecorded';

-- name: batch_submissions
INSERT INTO batch_submissions
SELECT seq, at_ms, batch, count, parallel, fail_fast, source FROM stage WHERE fact = 'BatchSubmitted';

-- name: batch_ends
INSERT INTO batch_ends
SELECT seq, at_ms, batch, as_of_seq FROM stage WHERE fact = 'BatchCompleted';

-- name: cancels
INSERT INTO cancels
SELECT seq, at_ms, chain, task, reason FROM stage WHERE fact = 'TaskCancelRequested';

-- name: other_facts
INSERT INTO other_facts
SELECT seq, at_ms, fact FROM stage WHERE fact NOT IN (
    'TaskSubmitted', 'TaskRouted', 'QuotaReserved', 'QuotaDeferred', 'QuotaRefused', 'TaskStarted', 'TaskCompleted',
    'AttemptFailed', 'AttemptInterrupted', 'LateResult', 'CostRecorded', 'BatchSubmitted', 'BatchCompleted',
    'TaskCancelRequested');
