-- Sections 3 to 5.3 of the rules in one query, for benchmarks/replay.py: no history, no as-of but the Exit Close-Outs, no
-- record of what was rejected, one meter and one registration a point, one batch a Day. Volumes are exact decimals.

CREATE TEMP TABLE fact AS
SELECT * FROM read_json('FACTS_FILE', format = 'newline_delimited', columns = {
    fact: 'VARCHAR', received_at: 'TIMESTAMPTZ', meter_point: 'VARCHAR', gas_day: 'DATE', ldz: 'VARCHAR',
    annual_quantity_kwh: 'DECIMAL(14, 3)', mj_per_m3: 'DECIMAL(9, 6)', digits: 'INTEGER',
    m3_per_tick: 'DECIMAL(14, 11)', conversion_factor: 'DECIMAL(6, 5)', q_max_m3_per_h: 'DECIMAL(10, 3)',
    first_at: 'TIMESTAMPTZ', interval_s: 'INTEGER', index: 'JSON'});

CREATE TEMP MACRO half_up(n, d) AS (2 * n + d) // (2 * d);  -- whole numbers of 0 or more

CREATE TEMP MACRO advance(from_index, to_index, whole) AS (to_index - from_index + whole) % whole;

CREATE TEMP MACRO admissible(from_index, to_index, whole, tick_m3, most_m3) AS
    advance(from_index, to_index, whole) * tick_m3 <= most_m3 + tick_m3
    AND (to_index >= from_index OR 2 * advance(from_index, to_index, whole) < whole);

COPY (
WITH span AS (
    SELECT min(gas_day) AS first, max(gas_day) AS last FROM fact WHERE fact = 'readings'
), as_of AS (
    SELECT max(received_at) AS instant FROM fact
), day AS (
    SELECT d::DATE AS gas_day,
        timezone('Europe/London', d + INTERVAL 5 HOUR) AS starts,
        timezone('Europe/London', d + INTERVAL 29 HOUR) AS ends,
        timezone('Europe/London', d + INTERVAL 149 HOUR) AS close_out
    FROM span, range(span.first::TIMESTAMP, (SELECT timezone('Europe/London', instant) - INTERVAL 5 HOUR FROM as_of) + INTERVAL 1 MICROSECOND, INTERVAL 1 DAY) AS r(d)
), point AS (
    SELECT r.meter_point, r.gas_day AS registered, r.ldz, r.annual_quantity_kwh,
        CAST(pow(10, m.digits) AS BIGINT) AS whole, m.m3_per_tick AS tick_m3,
        m.q_max_m3_per_h * 1.01 AS most_m3_per_h,
        m.m3_per_tick::DECIMAL(24, 11) * coalesce(m.conversion_factor, 1::DECIMAL(6, 5)) AS k,
        m."index"::BIGINT AS fitting
    FROM fact r JOIN fact m ON m.meter_point = r.meter_point AND m.fact = 'meter_fitted'
    WHERE r.fact = 'registered'
), calorific_value AS (
    SELECT ldz, gas_day, arg_max(mj_per_m3, received_at) AS mj_per_m3
    FROM fact WHERE fact = 'calorific_value' GROUP BY ALL
), piece AS (  -- the readings within 60 s of the Day's boundaries
    SELECT f.meter_point, f.gas_day, f.received_at,
        CASE WHEN abs(epoch_us(f.first_at) - epoch_us(d.starts)) <= 60000000 THEN ("index" ->> 0)::BIGINT END AS first,
        CASE WHEN abs(epoch_us(f.first_at) + (json_array_length("index") - 1) * f.interval_s::BIGINT * 1000000 - epoch_us(d.ends)) <= 60000000
            THEN ("index" ->> -1)::BIGINT END AS last
    FROM fact f JOIN day d USING (gas_day) WHERE f.fact = 'readings'
), batch AS (  -- copies count once, at their earliest receipt
    SELECT meter_point, gas_day, min(received_at) AS received_at, any_value(first) AS first, any_value(last) AS last
    FROM piece GROUP BY meter_point, gas_day
), judged AS (  -- whether a batch's own boundary readings go together
    SELECT p.*, d.*, b.received_at, b.first, b.last,
        most_m3_per_h * (epoch_us(d.ends) - epoch_us(d.starts)) / 3600000000 AS most_m3,
        first IS NULL OR last IS NULL OR admissible(first, last, whole, tick_m3, most_m3) AS together
    FROM point p CROSS JOIN day d LEFT JOIN batch b USING (meter_point, gas_day)
    WHERE d.gas_day >= p.registered
), sound AS (  -- where they do not, the one stands that a neighbour says too
    SELECT *,
        CASE WHEN together OR first = coalesce(lag(last) OVER w, CASE WHEN gas_day = registered THEN fitting END) THEN first END AS start_index,
        CASE WHEN together OR last = lead(first) OVER w THEN last END AS end_index
    FROM judged WINDOW w AS (PARTITION BY meter_point ORDER BY gas_day)
), boundary AS (  -- what is known of the Day's boundaries at its close-out, by its own batch and its neighbours'
    SELECT *,
        received_at <= close_out AS came,
        CASE WHEN gas_day = registered THEN fitting
            WHEN lag(received_at) OVER w <= close_out THEN lag(end_index) OVER w END AS start_before,
        CASE WHEN lead(received_at) OVER w <= close_out THEN lead(start_index) OVER w END AS end_after
    FROM sound WINDOW w AS (PARTITION BY meter_point ORDER BY gas_day)
), standing AS (
    SELECT *,
        coalesce(start_before, CASE WHEN came THEN start_index END) AS begin_index,
        coalesce(CASE WHEN came THEN end_index END, end_after) AS finish_index,
        coalesce(came AND (
            (first IS NOT NULL AND start_index IS NULL) OR (last IS NOT NULL AND end_index IS NULL) OR start_index <> start_before
        ), FALSE) AS spoiled
    FROM boundary
), measured AS (
    SELECT s.*, mj_per_m3,
        CASE WHEN NOT spoiled AND admissible(begin_index, finish_index, whole, tick_m3, most_m3) THEN
            round((finish_index + CASE WHEN finish_index < begin_index THEN whole ELSE 0 END)::DECIMAL(11, 0) * k, 3)
            - round(begin_index::DECIMAL(11, 0) * k, 3)
        END AS actual_m3,
        half_up((annual_quantity_kwh * 1000)::HUGEINT, 365) AS deemed_wh
    FROM standing s LEFT JOIN calorific_value c ON c.ldz = s.ldz AND c.gas_day = s.gas_day
), substituted AS (
    SELECT *,
        CASE WHEN actual_m3 IS NOT NULL THEN 'actual'
            WHEN close_out > (SELECT instant FROM as_of) THEN 'provisional'
            WHEN gas_day < registered + 7 THEN 'deemed' ELSE 'assumed' END AS status,
        CASE WHEN actual_m3 IS NOT NULL THEN actual_m3
            WHEN gas_day < registered + 7 THEN
                half_up(deemed_wh * 36000000, (mj_per_m3 * 1000000)::HUGEINT * 10)::DECIMAL(18, 0) * 0.001
        END AS first_m3
    FROM measured
), closed AS (  -- an assumed Day is the Day a week before, which may be assumed itself
    SELECT *, last_value(first_m3 IGNORE NULLS) OVER (
        PARTITION BY meter_point, dayofweek(gas_day) ORDER BY gas_day ROWS UNBOUNDED PRECEDING) AS volume_m3
    FROM substituted
)
SELECT meter_point, gas_day, status, volume_m3::DECIMAL(20, 3) AS volume_m3,
    CASE WHEN status = 'deemed' THEN deemed_wh
        ELSE half_up((volume_m3 * 1000)::HUGEINT * (mj_per_m3 * 1000000)::HUGEINT, 3600000) END::DECIMAL(18, 0) * 0.001 AS quantity_kwh
FROM closed ORDER BY meter_point, gas_day
) TO 'ANSWER_FILE' (FORMAT csv, HEADER false);
