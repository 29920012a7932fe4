//! Where the turns of a history are that rewinds have cut.

/// Turns that follow each other in one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Part {
    pub(in crate::store) from: u32,
    /// The turn after the last.
    pub(in crate::store) end: u32,
    /// The generation whose rewind archived them; `None` if they are in the history still.
    pub(in crate::store) cut_in: Option<u32>,
}

impl Part {
    /// All turns of the history as it is.
    pub(in crate::store) const WHOLE: Self = Self {
        from: 0,
        end: u32::MAX,
        cut_in: None,
    };
}

/// Where the turns of a history before the rewind of a generation are, in their order. What that rewind did not cut off may have been cut
/// off by a later one; the rest is in the history still. `rewinds` are generations, and the first turn that each cut off, in order.
pub(in crate::store) fn parts(
    rewinds: impl Iterator<Item = (u32, u32)>,
    generation: u32,
) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut end = u32::MAX;
    for (of, cut) in rewinds.filter(|(of, _)| *of >= generation) {
        if cut < end {
            parts.push(Part {
                from: cut,
                end,
                cut_in: Some(of),
            });
            end = cut;
        }
    }
    parts.push(Part { end, ..Part::WHOLE });
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_before_a_rewind_is_put_together_from_what_later_ones_cut_off() {
        let part = |from, end, cut_in| Part { from, end, cut_in };
        let rewinds = [(0, 5), (1, 7), (2, 3)];
        let of = |generation| parts(rewinds.into_iter(), generation);
        let first = [
            part(0, 3, None),
            part(3, 5, Some(2)),
            part(5, u32::MAX, Some(0)),
        ];
        assert_eq!(of(0), first);
        let second = [
            part(0, 3, None),
            part(3, 7, Some(2)),
            part(7, u32::MAX, Some(1)),
        ];
        assert_eq!(of(1), second);
        assert_eq!(of(2), [part(0, 3, None), part(3, u32::MAX, Some(2))]);
        assert_eq!(of(3), [Part::WHOLE]);
    }
}
