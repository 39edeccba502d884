//! Lines of saved rules.

/// The arguments a line of `-R`'s input stands for. There is no quoting and no comment; the word `ipvsadm` is dropped
/// wherever it stands, so that saved command lines can be restored.
pub fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split([' ', '\t', '\r', '\n']).filter(|word| !word.is_empty() && *word != "ipvsadm")
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn lines_split_on_blanks_alone() {
        let line = "  ipvsadm -A\t-t 'a b' # c\r\n";
        assert_eq!(words(line).collect::<Vec<_>>(), ["-A", "-t", "'a", "b'", "#", "c"]);
    }
}
