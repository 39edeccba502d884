//! Markdown as roff's man macros: headings, paragraphs, lists, tables, code, links and emphasis. Drawings are left out.

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

/// Sections of a page: headings of level 1 become sections, deeper ones subsections.
pub fn sections(markdown: &str) -> String {
    Writer::default().write(markdown)
}

/// A page that is one chapter of the guide: the heading of level 1 is its title, and those of level 2 become sections.
pub fn chapter(name: &str, markdown: &str) -> String {
    let title = markdown.lines().next().unwrap_or_default().trim_start_matches("# ");
    let body = Writer { is_chapter: true, ..Writer::default() }.write(markdown);
    let heading = heading(name, 7);
    format!(
        "{heading}.SH NAME\n{} \\- {}\n.SH DESCRIPTION\n{body}.SH \"SEE ALSO\"\n.BR lvsadm (8)\n",
        escaped(name),
        escaped(title)
    )
}

/// The line that begins a page.
pub fn heading(name: &str, section: u8) -> String {
    format!(".TH {} {section} \"\" \"\" \"System Manager's Manual\"\n", escaped(&name.to_uppercase()))
}

/// A text with roff's own characters made harmless, but for a line's first.
pub fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// What is being written.
#[derive(Default)]
struct Writer {
    /// The page so far: whole lines.
    page: String,
    /// The paragraph, heading, list item or cell so far.
    line: String,
    /// The heading of level 1 is a title that is written elsewhere.
    is_chapter: bool,
    /// A code block, and whether it is a drawing.
    code: Option<bool>,
    /// Lists that are open: the next number of one that counts.
    lists: Vec<Option<u64>>,
    /// The cells of the table's row so far, and those of its heading.
    row: Vec<String>,
    headings: Vec<String>,
}

impl Writer {
    fn write(mut self, markdown: &str) -> String {
        for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
            self.take(event);
        }
        self.page
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => match self.code {
                Some(true) => {}
                Some(false) => text.lines().for_each(|line| self.whole_line(&escaped(line))),
                None => self.line.push_str(&escaped(&text)),
            },
            Event::Code(text) => self.line.push_str(&format!("\\fB{}\\fR", escaped(&text))),
            Event::SoftBreak | Event::HardBreak => self.line.push(' '),
            _ => {}
        }
    }

    fn start(&mut self, tag: Tag) {
        match tag {
            Tag::CodeBlock(kind) => {
                let drawing = matches!(&kind, CodeBlockKind::Fenced(language) if &**language == "mermaid");
                self.code = Some(drawing);
                if !drawing {
                    self.page.push_str(".PP\n.in +4n\n.nf\n");
                }
            }
            Tag::List(first) => {
                // An item's own text comes before the list in it.
                self.flush("");
                if !self.lists.is_empty() {
                    self.page.push_str(".RS\n");
                }
                self.lists.push(first);
            }
            Tag::Item => match self.lists.last_mut() {
                Some(Some(number)) => {
                    self.page.push_str(&format!(".IP {number}. 4\n"));
                    *number += 1;
                }
                _ => self.page.push_str(".IP \\(bu 2\n"),
            },
            Tag::Emphasis => self.line.push_str("\\fI"),
            Tag::Strong => self.line.push_str("\\fB"),
            Tag::TableHead | Tag::TableRow => self.row.clear(),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => self.heading(level),
            TagEnd::Paragraph if self.lists.is_empty() => self.flush(".PP\n"),
            TagEnd::Paragraph | TagEnd::Item => self.flush(""),
            TagEnd::CodeBlock => self.end_code(),
            TagEnd::List(_) => {
                self.lists.pop();
                if !self.lists.is_empty() {
                    self.page.push_str(".RE\n");
                }
            }
            TagEnd::Emphasis | TagEnd::Strong => self.line.push_str("\\fR"),
            TagEnd::TableCell => self.row.push(std::mem::take(&mut self.line)),
            TagEnd::TableHead => self.headings = std::mem::take(&mut self.row),
            TagEnd::TableRow => self.table_row(),
            _ => {}
        }
    }

    /// A heading, one level up in a chapter, whose title stands elsewhere.
    fn heading(&mut self, level: HeadingLevel) {
        let text = std::mem::take(&mut self.line);
        match (level as usize).saturating_sub(usize::from(self.is_chapter)) {
            0 => {}
            1 => self
                .page
                .push_str(&format!(".SH \"{}\"\n", text.to_uppercase().replace("\\FB", "").replace("\\FR", ""))),
            _ => self.page.push_str(&format!(".SS \"{text}\"\n")),
        }
    }

    /// The end of a code block. A drawing began nothing.
    fn end_code(&mut self) {
        if self.code.take() == Some(false) {
            self.page.push_str(".fi\n.in\n");
        }
    }

    /// A row as a paragraph with a tag, its first cell. Of three cells or more each says which it is.
    fn table_row(&mut self) {
        let row = std::mem::take(&mut self.row);
        let Some((first, rest)) = row.split_first() else { return };
        self.page.push_str(".TP\n");
        self.whole_line(&if first.is_empty() { "\\ ".to_owned() } else { format!("\\fB{first}\\fR") });
        let cells = rest.iter().zip(self.headings.iter().skip(1)).filter(|(cell, _)| !cell.is_empty());
        let lines: Vec<String> = match rest.len() {
            0 | 1 => cells.map(|(cell, _)| cell.clone()).collect(),
            _ => cells.map(|(cell, heading)| format!("{heading}: {cell}")).collect(),
        };
        self.whole_line(&lines.join("\n.br\n"));
    }

    /// Ends the text so far, after a macro that begins it.
    fn flush(&mut self, before: &str) {
        let text = std::mem::take(&mut self.line);
        if !text.trim().is_empty() {
            self.page.push_str(before);
            self.whole_line(text.trim());
        }
    }

    /// A line of text. One that begins as a macro does is text all the same.
    fn whole_line(&mut self, text: &str) {
        if text.starts_with(['.', '\'']) {
            self.page.push_str("\\&");
        }
        self.page.push_str(text);
        self.page.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_becomes_macros() {
        let cases = [
            ("# ONE\n\ntext `-n` *it*\nnext", ".SH \"ONE\"\n.PP\ntext \\fB\\-n\\fR \\fIit\\fR next\n"),
            ("## two", ".SS \"two\"\n"),
            ("- a\n- b", ".IP \\(bu 2\na\n.IP \\(bu 2\nb\n"),
            ("1. a\n2. b", ".IP 1. 4\na\n.IP 2. 4\nb\n"),
            ("    .code\n    \\x", ".PP\n.in +4n\n.nf\n\\&.code\n\\ex\n.fi\n.in\n"),
            ("```mermaid\nflowchart\n```\n", ""),
            ("| a | b |\n|---|---|\n| c | d |\n", ".TP\n\\fBc\\fR\nd\n"),
            ("| a | b | e |\n|---|---|---|\n| c | d | f |\n", ".TP\n\\fBc\\fR\nb: d\n.br\ne: f\n"),
            ("[text](other.md#part)", ".PP\ntext\n"),
            (".dot", ".PP\n\\&.dot\n"),
        ];
        for (markdown, roff) in cases {
            assert_eq!(sections(markdown), roff, "{markdown}");
        }
    }

    #[test]
    fn a_chapter_is_a_page() {
        let page = chapter("lvsadm-floods", "# Floods of SYNs\n\ntext\n\n## Part\n");
        assert!(page.starts_with(".TH LVSADM\\-FLOODS 7 "), "{page}");
        assert!(
            page.contains(".SH NAME\nlvsadm\\-floods \\- Floods of SYNs\n.SH DESCRIPTION\n.PP\ntext\n.SH \"PART\"\n"),
            "{page}"
        );
    }
}
