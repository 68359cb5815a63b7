//! The known word that a wrong one was probably meant to be.

/// The nearest of `known`, if one is near enough to be a slip: case aside, at most a third of the
/// word's letters changed, swapped, missing or too many.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let limit = lower.chars().count() / 3;
    let distance = |name: &str| strsim::osa_distance(&lower, &name.to_lowercase());
    let near = known.into_iter().map(|name| (distance(name), name));
    near.filter(|(distance, _)| *distance <= limit).min_by_key(|(d, _)| *d).map(|(_, name)| name)
}

/// `; did you mean 'x'?`, or nothing.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map(|name| format!("; did you mean '{name}'?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_slips_and_nothing_far() {
        let known = ["capacity", "transactionCapacity", "keep-alive", "type"];
        assert_eq!(nearest("capcity", known), Some("capacity"));
        assert_eq!(nearest("keep-alvie", known), Some("keep-alive"));
        assert_eq!(nearest("Type", known), Some("type"));
        assert_eq!(nearest("port", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest("k2", ["k1"]), None, "short names are all alike");
    }
}
