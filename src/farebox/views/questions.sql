-- What people ask the ledger. Times in ms since 1970; amounts DECIMAL(38, 12) US dollars; NULL is unknown.

-- name: find
SELECT chain, task FROM (
    SELECT chain, task, seq FROM submissions WHERE starts_with(task, $task)
    UNION ALL SELECT chain, task, seq FROM ends WHERE starts_with(task, $task))
GROUP BY chain, task ORDER BY task = $task DESC, max(seq) DESC LIMIT 2;

-- name: tasks
SELECT * EXCLUDE (output_sha256) FROM tasks
WHERE ($state = '' OR status = $state) AND ($platform = '' OR platform = $platform) AND ($batch = '' OR batch = $batch)
  AND ($chain = '' OR chain = $chain) AND coalesce(submitted_ms, ended_ms) >= $since_ms
ORDER BY seq DESC LIMIT $limit;

-- name: unfinished
SELECT count(*) AS tasks FROM submissions ANTI JOIN ends USING (chain, task);

-- name: result
-- A task that the router ended has the partial output of its last attempt that came to something.
SELECT tasks.* EXCLUDE (output_sha256), output, output_ref, files_created, files_changed, files_more,
       ends.worktree, ends.base_commit,
       coalesce(nullif(ends.partial_output, ''), if(ends.partial_ref IS NULL, said.partial_output, NULL)) AS partial_output,
       coalesce(ends.partial_ref, if(coalesce(ends.partial_output, '') = '', said.partial_ref, NULL)) AS partial_ref
FROM tasks LEFT JOIN ends USING (chain, task) LEFT JOIN (
    SELECT chain, task, arg_max(partial_output, attempt) AS partial_output, arg_max_null(partial_ref, attempt) AS partial_ref
    FROM endings WHERE chain = $chain AND task = $task AND fact <> 'LateResult' AND attempt > 0 AND platform <> '-'
      AND (coalesce(partial_output, '') <> '' OR partial_ref IS NOT NULL) GROUP BY chain, task) AS said USING (chain, task)
WHERE tasks.chain = $chain AND tasks.task = $task;

-- name: batch_results
SELECT tasks.* EXCLUDE (output_sha256), ends.seq AS end_seq, output, output_ref, files_created, files_changed, files_more,
       ends.worktree, ends.base_commit,
       coalesce(nullif(ends.partial_output, ''), if(ends.partial_ref IS NULL, said.partial_output, NULL)) AS partial_output,
       coalesce(ends.partial_ref, if(coalesce(ends.partial_output, '') = '', said.partial_ref, NULL)) AS partial_ref
FROM tasks JOIN ends USING (chain, task) LEFT JOIN (
    SELECT chain, task, arg_max(partial_output, attempt) AS partial_output, arg_max_null(partial_ref, attempt) AS partial_ref
    FROM endings WHERE (chain, task) IN (SELECT chain, task FROM tasks WHERE batch = $batch) AND fact <> 'LateResult' AND attempt > 0 AND platform <> '-'
      AND (coalesce(partial_output, '') <> '' OR partial_ref IS NOT NULL) GROUP BY chain, task) AS said USING (chain, task)
WHERE tasks.batch = $batch AND ends.seq > $after ORDER BY ends.seq LIMIT $limit;

-- name: attempts
SELECT * FROM attempts WHERE chain = $chain AND task = $task ORDER BY attempt;

-- name: last_route
SELECT seq, at_ms, attempt, coalesce(candidates, '[]') AS candidates, coalesce(rejected, '[]') AS rejected
FROM routes WHERE chain = $chain AND task = $task ORDER BY seq DESC LIMIT 1;

-- name: last_quota_word
SELECT seq, fact, attempt, coalesce(platform, '') AS platform, due_ms, coalesce(reason, '') AS reason
FROM quota_words WHERE chain = $chain AND task = $task ORDER BY seq DESC LIMIT 1;

-- name: last_cancel
SELECT seq, coalesce(reason, '') AS reason FROM cancels WHERE chain = $chain AND task = $task ORDER BY seq DESC LIMIT 1;

-- name: facts_of
SELECT seq FROM (
    SELECT seq, chain, task FROM submissions UNION ALL SELECT seq, chain, task FROM routes
    UNION ALL SELECT seq, chain, task FROM quota_words UNION ALL SELECT seq, chain, task FROM starts
    UNION ALL SELECT seq, chain, task FROM endings UNION ALL SELECT seq, chain, task FROM charges
    UNION ALL SELECT seq, chain, task FROM cancels)
WHERE chain = $chain AND task = $task ORDER BY seq;

-- name: batch
SELECT * FROM batches WHERE batch = $batch;

-- name: batch_statuses
SELECT status, count(*) AS tasks, count(*) FILTER (charge_due) AS charge_due FROM tasks WHERE batch = $batch
GROUP BY status ORDER BY status;

-- name: batch_ended
SELECT ends.task FROM ends JOIN tasks USING (chain, task) WHERE tasks.batch = $batch ORDER BY ends.seq;

-- name: costs
-- Money by what was booked in the time asked for, tasks and durations by what ended in it. A task counts where it ended or
-- was tried last, money where it was spent. `whole` marks the total.
WITH booked AS (
    SELECT *, CASE $by WHEN 'platform' THEN platform WHEN 'model' THEN coalesce(model, '') WHEN 'chain' THEN chain
                  WHEN 'task' THEN chain || '/' || task WHEN 'batch' THEN coalesce(batch, '')
                  ELSE strftime(make_timestamp(booked_ms * 1000), '%Y-%m-%d') END AS key
    FROM costs WHERE booked_ms >= $since_ms AND booked_ms < $until_ms AND ($in_batch = '' OR batch = $in_batch)),
ended AS (
    SELECT *, CASE $by WHEN 'platform' THEN platform WHEN 'model' THEN coalesce(model, '') WHEN 'chain' THEN chain
                  WHEN 'task' THEN chain || '/' || task WHEN 'batch' THEN coalesce(batch, '')
                  ELSE strftime(make_timestamp(at_ms * 1000), '%Y-%m-%d') END AS key
    FROM finished WHERE at_ms >= $since_ms AND at_ms < $until_ms AND ($in_batch = '' OR batch = $in_batch)),
money AS (
    SELECT coalesce(key, '') AS key, grouping(key) AS whole, string_agg(DISTINCT billing, ' ' ORDER BY billing) AS billing,
           count(*) AS charges, sum(real_usd) AS paid_usd, sum(value_usd) AS plan_value_usd,
           sum(possible_usd) AS possible_usd, sum(rehearsal_usd) AS rehearsal_usd,
           sum(rehearsal_possible_usd) AS rehearsal_possible_usd,
           count(*) FILTER (NOT rehearsal AND real_usd IS NULL) AS unknown,
           count(*) FILTER (status = 'unpriced') AS unpriced, count(*) FILTER (status = 'possible') AS possible,
           count(*) FILTER (status = 'possible' AND NOT rehearsal AND possible_usd IS NULL) AS possible_unknown,
           count(*) FILTER (status = 'estimated') AS estimated, sum(usage.input_tokens) AS input_tokens,
           sum(usage.output_tokens) AS output_tokens
    FROM booked GROUP BY GROUPING SETS ((booked.key), ())),
done AS (
    SELECT coalesce(key, '') AS key, grouping(key) AS whole, count(*) AS tasks,
           count(*) FILTER (status = 'completed') AS completed, sum(duration_ms) AS duration_ms,
           quantile_disc(duration_ms, 0.5) AS p50_ms, quantile_disc(duration_ms, 0.95) AS p95_ms
    FROM ended GROUP BY GROUPING SETS ((ended.key), ()))
SELECT * FROM money FULL JOIN done USING (key, whole) ORDER BY whole, key;

-- name: unpriced_models
SELECT platform || '/' || coalesce(model, '') AS model FROM costs
WHERE status = 'unpriced' AND booked_ms >= $since_ms AND booked_ms < $until_ms AND ($in_batch = '' OR batch = $in_batch)
GROUP BY ALL ORDER BY count(*) DESC, model LIMIT 10;

-- name: quarantined
-- What no view could read, the latest first; `ended`: its task has its end all the same.
SELECT quarantine.*, split_part(quarantine.subject, '.', 6) AS chain, split_part(quarantine.subject, '.', 7) AS task,
       ends.seq IS NOT NULL AS ended
FROM quarantine LEFT JOIN ends
    ON ends.chain = split_part(quarantine.subject, '.', 6) AND ends.task = split_part(quarantine.subject, '.', 7)
ORDER BY quarantine.seq DESC LIMIT $limit;

-- name: reservations
-- What became of reservations, by their sequences; an outcome that is no end may still come.
SELECT word.seq, word.chain, word.task, word.attempt, coalesce(word.platform, '') AS platform,
       ends.seq IS NOT NULL OR coalesce(tried.outcome, 'running') <> 'running' AS ended
FROM quota_words AS word LEFT JOIN ends ON ends.chain = word.chain AND ends.task = word.task
    LEFT JOIN attempts AS tried ON tried.chain = word.chain AND tried.task = word.task AND tried.attempt = word.attempt
WHERE word.seq IN (SELECT unnest($seqs));

-- name: attempts_of
SELECT * FROM attempts WHERE chain || '.' || task || '.' || attempt IN (SELECT unnest($names));

-- name: counts
SELECT fact, count(*) AS facts FROM (
    SELECT 'TaskSubmitted' AS fact FROM submissions UNION ALL SELECT 'TaskRouted' FROM routes
    UNION ALL SELECT fact FROM quota_words UNION ALL SELECT 'TaskStarted' FROM starts
    UNION ALL SELECT fact FROM endings UNION ALL SELECT 'CostRecorded' FROM charges
    UNION ALL SELECT 'BatchSubmitted' FROM batch_submissions UNION ALL SELECT 'BatchCompleted' FROM batch_ends
    UNION ALL SELECT 'TaskCancelRequested' FROM cancels UNION ALL SELECT fact FROM other_facts)
GROUP BY fact ORDER BY fact;

-- name: views
SELECT (SELECT count(*) FROM tasks) AS tasks, (SELECT count(*) FROM attempts) AS attempts,
       (SELECT count(*) FROM costs) AS costs, (SELECT count(*) FROM chains) AS chains,
       (SELECT count(*) FROM batches) AS batches, (SELECT count(*) FROM alarms) AS alarms,
       (SELECT count(*) FROM quarantine) AS quarantined;
