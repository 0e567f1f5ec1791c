//! serde's case rules, for fields: serde's own names are needed for documents, and columns follow the same rules.

/// A case rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Lower,
    Upper,
    Pascal,
    Camel,
    Snake,
    ScreamingSnake,
    Kebab,
    ScreamingKebab,
}

impl Case {
    /// Every rule by the word that names it.
    const WORDS: [(&'static str, Self); 8] = [
        ("lowercase", Self::Lower),
        ("UPPERCASE", Self::Upper),
        ("PascalCase", Self::Pascal),
        ("camelCase", Self::Camel),
        ("snake_case", Self::Snake),
        ("SCREAMING_SNAKE_CASE", Self::ScreamingSnake),
        ("kebab-case", Self::Kebab),
        ("SCREAMING-KEBAB-CASE", Self::ScreamingKebab),
    ];

    /// The words that name rules.
    pub(crate) fn words() -> impl Iterator<Item = &'static str> {
        Self::WORDS.iter().map(|(word, _)| *word)
    }

    /// The rule that a word names.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, case)| *case)
    }

    /// A field's name by this rule. As in serde, a field is taken to be snake_case.
    pub(crate) fn apply(self, field: &str) -> String {
        match self {
            Self::Lower | Self::Snake => field.to_owned(),
            Self::Upper | Self::ScreamingSnake => field.to_ascii_uppercase(),
            Self::Kebab => field.replace('_', "-"),
            Self::ScreamingKebab => field.to_ascii_uppercase().replace('_', "-"),
            Self::Pascal => pascal(field),
            Self::Camel => {
                let pascal = pascal(field);
                let mut chars = pascal.chars();
                chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
            }
        }
    }
}

fn pascal(field: &str) -> String {
    let mut name = String::with_capacity(field.len());
    let mut start_of_word = true;
    for char in field.chars() {
        if char == '_' {
            start_of_word = true;
        } else if start_of_word {
            name.push(char.to_ascii_uppercase());
            start_of_word = false;
        } else {
            name.push(char);
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::Case;

    #[test]
    fn rules_are_those_of_serde() {
        let cases = [
            ("lowercase", "very_tasty2", "very_tasty2"),
            ("UPPERCASE", "very_tasty2", "VERY_TASTY2"),
            ("PascalCase", "very_tasty2", "VeryTasty2"),
            ("camelCase", "very_tasty2", "veryTasty2"),
            ("snake_case", "very_tasty2", "very_tasty2"),
            ("SCREAMING_SNAKE_CASE", "very_tasty2", "VERY_TASTY2"),
            ("kebab-case", "very_tasty2", "very-tasty2"),
            ("SCREAMING-KEBAB-CASE", "very_tasty2", "VERY-TASTY2"),
            ("camelCase", "_leading", "leading"),
            ("camelCase", "__", ""),
            ("PascalCase", "a_1", "A1"),
        ];
        for (word, field, name) in cases {
            assert_eq!(Case::from_word(word).map(|case| case.apply(field)).as_deref(), Some(name), "{word}");
        }
        assert_eq!(Case::from_word("Camelcase"), None);
    }
}
