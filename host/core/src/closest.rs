//! Finds the known name that is closest to a misspelt one.

/// The longest text that is looked at: nobody misspells what is longer by a letter.
const CHARS_MAX: usize = 128;

/// The name that differs least from what was typed, if it differs by so little that it was probably meant: by case, or by a letter in four.
///
/// ```
/// use perennial_core::closest;
///
/// let names = ["HelloSequence", "FanOut"];
/// assert_eq!(closest("helloSequense", names), Some("HelloSequence"));
/// assert_eq!(closest("Order", names), None);
/// ```
pub fn closest<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters = |text: &str| -> Vec<char> {
        let chars = text.chars().flat_map(char::to_lowercase);
        chars.take(CHARS_MAX + 1).collect()
    };
    let typed = letters(typed);
    if typed.is_empty() || typed.len() > CHARS_MAX {
        return None;
    }
    let near = names.into_iter().filter_map(|name| {
        let other = letters(name);
        let most = (typed.len().max(other.len()) / 4).max(1);
        let fits = other.len() <= CHARS_MAX && typed.len().abs_diff(other.len()) <= most;
        let distance = fits.then(|| distance(&typed, &other))?;
        (distance <= most).then_some((distance, name))
    });
    near.min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Letters to be added, taken away, replaced or swapped with their neighbour.
fn distance(a: &[char], b: &[char]) -> usize {
    let (mut before, mut last) = (Vec::new(), (0..=b.len()).collect::<Vec<_>>());
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = a[i - 1] == b[j - 1];
            let mut least = (last[j] + 1)
                .min(row[j - 1] + 1)
                .min(last[j - 1] + usize::from(!same));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_near_what_was_typed() {
        let names = ["default", "billing", "orders", "Orders-EU"];
        for (typed, meant) in [
            ("defualt", Some("default")),
            ("billin", Some("billing")),
            ("ORDERS", Some("orders")),
            ("order-eu", Some("Orders-EU")),
            ("typo", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(closest(typed, names), meant, "{typed}");
        }
        let long = "x".repeat(10_000);
        assert_eq!(closest(&long, [long.as_str()]), None);
    }
}
