//! The queries for rows that are left of histories: of entries of the garbage, which are given as arrays of instances and of the first and
//! last of their executions.

/// Rows of each entry, in their order.
macro_rules! of_left {
    ($select:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $select,
            " FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS g (instance, low, high, place) ",
            $rest
        )
    };
}

/// The first entries of some ranges of keys, at most so many.
pub(super) const FIRST: &str = "SELECT g.instance, g.execution FROM unnest($1::bigint[], $2::bigint[]) AS r (low, high)
     CROSS JOIN LATERAL (SELECT instance, execution FROM garbage WHERE instance BETWEEN r.low AND r.high
         ORDER BY instance, execution LIMIT $3) AS g
     ORDER BY g.instance, g.execution LIMIT $3";

/// Keys of turns; of each entry at most so many.
pub(super) const TURNS: &str = of_left!(
    "t.instance, t.execution, t.number",
    "CROSS JOIN LATERAL (SELECT instance, execution, number FROM turn WHERE instance = g.instance AND execution BETWEEN g.low AND g.high
         ORDER BY instance, execution, number LIMIT $4) AS t ORDER BY g.place, t.execution, t.number"
);

/// Keys of cut turns; of each entry at most so many.
pub(super) const CUT_TURNS: &str = of_left!(
    "t.instance, t.execution, t.generation, t.number",
    "CROSS JOIN LATERAL (SELECT instance, execution, generation, number FROM cut_turn
         WHERE instance = g.instance AND execution BETWEEN g.low AND g.high
         ORDER BY instance, execution, generation, number LIMIT $4) AS t ORDER BY g.place, t.execution, t.generation, t.number"
);

/// Keys of rewinds.
pub(super) const REWINDS: &str = of_left!(
    "r.instance, r.execution, r.generation",
    "CROSS JOIN LATERAL (SELECT instance, execution, generation FROM rewind
         WHERE instance = g.instance AND execution BETWEEN g.low AND g.high OFFSET 0) AS r ORDER BY g.place, r.execution, r.generation"
);
