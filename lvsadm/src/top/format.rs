//! Numbers and small pictures, as text.

/// Letters of thousands.
const UNITS: [&str; 6] = ["", "k", "M", "G", "T", "P"];
/// Heights of a trend.
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A number in at most five characters: 0.4, 12, 1.23k, 456M.
pub fn short(value: f64) -> String {
    if value < 9.95 {
        let text = format!("{value:.1}");
        return text.strip_suffix(".0").map_or(text.clone(), str::to_owned);
    }
    let (mut value, mut unit) = (value, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{}", UNITS[unit])
}

/// Bytes in a second as bits.
pub fn bits(bytes: f64) -> String {
    short(bytes * 8.0)
}

/// A share of a whole as a bar of so many characters.
pub fn bar(share: f64, width: usize) -> String {
    let full = (share.clamp(0.0, 1.0) * width as f64).round() as usize;
    "█".repeat(full) + &"░".repeat(width - full)
}

/// Values as heights, the greatest of them as the full one.
pub fn trend(values: impl Iterator<Item = f64> + Clone) -> String {
    let most = values.clone().fold(0.0, f64::max);
    let height = |value: f64| {
        let step = if most > 0.0 { (value / most * 7.0).round() as usize } else { 0 };
        HEIGHTS[step.min(7)]
    };
    values.map(height).collect()
}

/// The first characters of a text, with blanks after it up to a width.
pub fn left(text: &str, width: usize) -> String {
    format!("{:<width$}", text.chars().take(width).collect::<String>())
}

/// A column of a table: its title, its width, how soon it is left out where there is no room (0 is never), and its text for a row.
pub struct Column<R> {
    /// The title.
    pub title: &'static str,
    /// The width in characters.
    pub width: usize,
    /// Columns with greater numbers are left out first.
    pub rank: u8,
    /// The text.
    pub text: fn(&R) -> String,
}

/// The columns of a table that fit beside a first one of at least `first` characters, and what is left for that.
pub fn fitting<R>(columns: &'static [Column<R>], width: usize, first: usize) -> (usize, Vec<&'static Column<R>>) {
    let mut ranks: Vec<u8> = columns.iter().map(|column| column.rank).collect();
    ranks.sort_unstable();
    let taken = |most: u8| columns.iter().filter(|c| c.rank <= most).map(|c| c.width + 1).sum::<usize>();
    let most = ranks.into_iter().rev().find(|rank| first + taken(*rank) <= width).unwrap_or(0);
    let chosen = columns.iter().filter(|column| column.rank <= most).collect();
    (width.saturating_sub(taken(most)).max(1), chosen)
}

/// A line of a first text and of columns, each at its right edge.
pub fn line<R>(first: &str, room: usize, columns: &[&Column<R>], text: impl Fn(&Column<R>) -> String) -> String {
    let mut line = left(first, room);
    for column in columns {
        let text: String = text(column).chars().take(column.width).collect();
        line += &format!(" {text:>width$}", width = column.width);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.04, "0"),
            (0.44, "0.4"),
            (9.94, "9.9"),
            (9.96, "10"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (99_960.0, "100k"),
            (1.5e6, "1.50M"),
            (2e18, "2000P"),
        ] {
            assert_eq!(short(value), text);
        }
        assert_eq!(bits(125.0), "1.00k");
    }

    #[test]
    fn pictures_are_as_wide_as_they_should_be() {
        assert_eq!(bar(0.5, 4), "██░░");
        assert_eq!(bar(7.0, 2), "██");
        assert_eq!(trend([0.0, 5.0, 10.0].into_iter()), "▁▅█");
        assert_eq!(trend([0.0, 0.0].into_iter()), "▁▁");
    }

    #[test]
    fn columns_are_left_out_where_there_is_no_room() {
        static COLUMNS: [Column<u32>; 3] = [
            Column { title: "A", width: 4, rank: 0, text: |row| row.to_string() },
            Column { title: "B", width: 4, rank: 2, text: |row| (2 * row).to_string() },
            Column { title: "C", width: 4, rank: 1, text: |row| (3 * row).to_string() },
        ];
        let shown = |width| {
            let (room, columns) = fitting(&COLUMNS, width, 6);
            line("name", room, &columns, |column| (column.text)(&7))
        };
        assert_eq!(shown(21), "name      7   14   21");
        assert_eq!(shown(20), "name          7   21");
        assert_eq!(shown(11), "name      7");
        assert_eq!(shown(3), "n    7");
    }
}
