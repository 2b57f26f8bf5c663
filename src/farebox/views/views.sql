-- What the tables of schema.sql come to. Each view is a plain SELECT over facts, so a rebuilt ledger says the same.

-- The charge in force of each attempt: the latest one; a later charge supersedes and never adds. `booked_ms` is when the
-- first one came. Money that was spent, list price that a plan covered, money that a lost call may have cost and play money of
-- rehearsals stand in columns of their own and are never added to each other.
CREATE OR REPLACE VIEW costs AS
SELECT charges.*, booked_ms, billing = 'rehearsal' AS rehearsal,
       CASE WHEN billing <> 'rehearsal' AND status <> 'possible' THEN paid_usd END AS real_usd,
       CASE WHEN billing = 'plan' AND status <> 'possible' THEN plan_value_usd END AS value_usd,
       CASE WHEN billing <> 'rehearsal' AND status = 'possible' THEN paid_usd END AS possible_usd,
       CASE WHEN billing = 'rehearsal' AND status <> 'possible' THEN paid_usd END AS rehearsal_usd,
       CASE WHEN billing = 'rehearsal' AND status = 'possible' THEN paid_usd END AS rehearsal_possible_usd
FROM charges JOIN (
    SELECT max(seq) AS seq, min(at_ms) AS booked_ms FROM charges GROUP BY chain, task, attempt) USING (seq);

-- The end of each task: the first TaskCompleted wins.
CREATE OR REPLACE VIEW ends AS
SELECT endings.* FROM endings JOIN (
    SELECT min(seq) AS seq FROM endings WHERE fact = 'TaskCompleted' GROUP BY chain, task) USING (seq);

-- The end of each task with the place where it was tried last: a task that the router ended after failed attempts is a failure
-- of the platform that failed it. '-': it never reached one.
CREATE OR REPLACE VIEW finished AS
SELECT ends.* REPLACE (
           CASE WHEN ends.platform = '-' THEN coalesce(failed.platform, '-') ELSE ends.platform END AS platform,
           coalesce(nullif(ends.model, ''), failed.model) AS model,
           CASE WHEN ends.platform = '-' AND ends.duration_ms = 0 THEN failed.duration_ms ELSE ends.duration_ms END AS duration_ms)
FROM ends LEFT JOIN (
    SELECT chain, task, arg_max(platform, attempt) AS platform, arg_max(model, attempt) AS model,
           arg_max(nullif(duration_ms, 0), attempt) AS duration_ms
    FROM endings WHERE fact IN ('AttemptFailed', 'AttemptInterrupted') AND platform <> '-'
    GROUP BY chain, task) AS failed USING (chain, task);

-- What should never be: a task that ended twice.
CREATE OR REPLACE VIEW alarms AS
SELECT seq, at_ms, chain, task, 'ended_twice' AS alarm, platform, status FROM endings
WHERE fact = 'TaskCompleted' AND seq NOT IN (SELECT seq FROM ends);

-- Every attempt: when it started, how it ended, what it used and cost. `late`: its answer came after it was given up.
CREATE OR REPLACE VIEW attempts AS
WITH started AS (
    SELECT chain, task, attempt, min(seq) AS seq, arg_min(at_ms, seq) AS started_ms, arg_min(platform, seq) AS platform,
           arg_min(model, seq) AS model, arg_min(billing, seq) AS billing, arg_min(worktree, seq) AS worktree
    FROM starts GROUP BY chain, task, attempt),
ended AS (
    SELECT chain, task, attempt, arg_min(at_ms, seq) AS ended_ms, arg_min(platform, seq) AS platform,
           arg_min(model, seq) AS model, arg_min(billing, seq) AS billing,
           arg_min(CASE fact WHEN 'TaskCompleted' THEN status WHEN 'AttemptFailed' THEN 'failed' ELSE 'interrupted' END, seq)
               AS outcome,
           arg_min(error_class, seq) AS error_class, arg_min(message, seq) AS message, arg_min(worktree, seq) AS worktree,
           arg_min(duration_ms, seq) AS duration_ms, arg_min(usage, seq) AS usage,
           bool_or(charged <> 'none' OR fact = 'TaskCompleted') AS chargeable
    FROM endings WHERE fact <> 'LateResult' AND attempt > 0 AND platform <> '-' GROUP BY chain, task, attempt),
lates AS (
    SELECT chain, task, attempt, arg_max(usage, seq) AS usage, arg_max(platform, seq) AS platform
    FROM endings WHERE fact = 'LateResult' GROUP BY chain, task, attempt),
marked AS (
    SELECT *, started.platform AS start_platform, ended.platform AS end_platform, lates.platform AS late_platform,
           started.model AS start_model, ended.model AS end_model, started.worktree AS start_worktree,
           ended.worktree AS end_worktree, started.billing AS start_billing,
           ended.billing AS end_billing, ended.usage AS end_usage, lates.usage AS late_usage
    FROM started FULL JOIN ended USING (chain, task, attempt) FULL JOIN lates USING (chain, task, attempt))
SELECT marked.chain, marked.task, marked.attempt, coalesce(end_platform, start_platform, late_platform) AS platform,
       coalesce(nullif(end_model, ''), start_model) AS model, coalesce(end_billing, start_billing) AS billing,
       started_ms, ended_ms, coalesce(outcome, 'running') AS outcome, late_platform IS NOT NULL AS late,
       error_class, message, CASE WHEN outcome IS NULL THEN start_worktree ELSE end_worktree END AS worktree, duration_ms, coalesce(costs.usage, late_usage, end_usage) AS usage,
       costs.status AS cost_status, costs.billing AS cost_billing, real_usd, value_usd, possible_usd, rehearsal_usd,
       costs.seq IS NULL AND coalesce(chargeable OR late_platform IS NOT NULL, false) AS charge_due
FROM marked LEFT JOIN costs USING (chain, task, attempt);

-- Every task, with the sums of its attempts.
CREATE OR REPLACE VIEW tasks AS
WITH submitted AS (
    SELECT submissions.* FROM submissions JOIN (SELECT min(seq) AS seq FROM submissions GROUP BY chain, task) USING (seq)),
tried AS (
    SELECT chain, task, count(*) AS attempts, bool_or(outcome = 'running') AS running, bool_or(charge_due) AS charge_due,
           count(cost_status) AS charges, count(*) FILTER (cost_status = 'unpriced') AS unpriced,
           count(*) FILTER (cost_status = 'possible') AS possible,
           count(*) FILTER (cost_status = 'estimated') AS estimated,
           bool_and(cost_billing = 'rehearsal') AS rehearsal, sum(real_usd) AS paid_usd, sum(value_usd) AS plan_value_usd,
           -- A sum that leaves out what nobody can bound is no "at most".
           CASE WHEN NOT bool_or(cost_status = 'possible' AND cost_billing <> 'rehearsal' AND possible_usd IS NULL)
               THEN sum(possible_usd) END AS possible_usd, sum(rehearsal_usd) AS rehearsal_usd,
           arg_max(nullif(duration_ms, 0), attempt) AS duration_ms,
           sum(usage.input_tokens) AS input_tokens, sum(usage.output_tokens) AS output_tokens,
           sum(usage.cached_tokens) AS cached_tokens, sum(usage.reasoning_tokens) AS reasoning_tokens,
           max(CASE WHEN usage IS NOT NULL THEN coalesce(usage.source, 'provider') END) AS usage_source,
           arg_max(platform, attempt) AS platform, arg_max(model, attempt) AS model, arg_max(billing, attempt) AS billing
    FROM attempts GROUP BY chain, task)
SELECT coalesce(submitted.chain, ends.chain) AS chain, coalesce(submitted.task, ends.task) AS task,
       coalesce(submitted.batch, ends.batch, '') AS batch, coalesce(label, '') AS label, coalesce(type, 'general') AS type,
       coalesce(submitted.seq, ends.seq) AS seq, submitted.at_ms AS submitted_ms, ends.at_ms AS ended_ms,
       coalesce(ends.status, CASE WHEN running THEN 'running' ELSE 'pending' END) AS status,
       coalesce(nullif(ends.platform, '-'), tried.platform, '') AS platform,
       coalesce(nullif(ends.model, ''), tried.model, '') AS model,
       CASE WHEN ends.platform <> '-' THEN ends.billing ELSE coalesce(tried.billing, '') END AS billing,
       error_class, message,
       CASE WHEN ends.platform = '-' AND ends.duration_ms = 0 THEN tried.duration_ms ELSE ends.duration_ms END AS duration_ms,
       sha256(coalesce(ends.output, '')) AS output_sha256,
       coalesce(attempts, 0) AS attempts, coalesce(charge_due, false) AS charge_due, coalesce(charges, 0) AS charges,
       coalesce(unpriced, 0) AS unpriced, coalesce(possible, 0) AS possible, coalesce(estimated, 0) AS estimated,
       coalesce(rehearsal, false) AS rehearsal, paid_usd, plan_value_usd, possible_usd, rehearsal_usd, input_tokens,
       output_tokens, cached_tokens, reasoning_tokens, usage_source
FROM submitted FULL JOIN ends USING (chain, task) LEFT JOIN tried USING (chain, task);

-- Every chain of tasks.
CREATE OR REPLACE VIEW chains AS
SELECT chain, count(*) AS tasks, count(*) FILTER (status = 'completed') AS completed, min(submitted_ms) AS first_ms,
       max(ended_ms) AS last_ms, sum(attempts) AS attempts, sum(paid_usd) AS paid_usd,
       sum(plan_value_usd) AS plan_value_usd, sum(possible_usd) AS possible_usd, sum(rehearsal_usd) AS rehearsal_usd
FROM tasks GROUP BY chain;

-- Success per platform and day (UTC): of the tasks that ended there, or were tried there last.
CREATE OR REPLACE VIEW success AS
SELECT platform, strftime(make_timestamp(at_ms * 1000), '%Y-%m-%d') AS day, count(*) AS tasks,
       count(*) FILTER (status = 'completed') AS completed, count(*) FILTER (status = 'failed') AS failed,
       count(*) FILTER (status = 'cancelled') AS cancelled, quantile_disc(duration_ms, 0.5) AS p50_ms,
       quantile_disc(duration_ms, 0.95) AS p95_ms
FROM finished GROUP BY ALL;

-- Every batch.
CREATE OR REPLACE VIEW batches AS
SELECT batch, min(batch_submissions.at_ms) AS submitted_ms, min(batch_ends.at_ms) AS ended_ms,
       arg_min(count, batch_submissions.seq) AS count, arg_min(parallel, batch_submissions.seq) AS parallel,
       arg_min(fail_fast, batch_submissions.seq) AS fail_fast, arg_min(source, batch_submissions.seq) AS source
FROM batch_submissions FULL JOIN batch_ends USING (batch) GROUP BY batch;
