//! HTML as far as it is written. Every text is escaped here.

/// Markup comes from the program alone; names, texts and cells may be anything.
#[derive(Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup that begins something.
    pub(super) fn open(&mut self, tags: &str) {
        self.0 += tags;
    }

    /// Markup that ends it.
    pub(super) fn close(&mut self, tags: &str) {
        self.0 += tags;
        self.0.push('\n');
    }

    /// A text between its tags.
    pub(super) fn text(&mut self, open: &str, text: &str, close: &str) {
        self.open(open);
        for character in text.chars() {
            match character {
                '&' => self.0 += "&amp;",
                '<' => self.0 += "&lt;",
                '>' => self.0 += "&gt;",
                '"' => self.0 += "&quot;",
                other => self.0.push(other),
            }
        }
        self.open(close);
    }

    /// One number that is seen from afar, and below it, by the page's script, its course: of
    /// this id, as a "level" or a "count", with the number as it is now.
    pub(super) fn card(
        &mut self,
        title: &str,
        number: &str,
        about: &str,
        course: Option<(&'static str, &'static str, u64)>,
    ) {
        self.open("<section>");
        self.text("<h2>", title, "</h2>");
        self.text("<p class=\"number\">", number, "</p>");
        self.text("<p class=\"faint\">", about, "</p>");
        if let Some((id, kind, now)) = course {
            self.open(&format!(
                "<figure><svg id=\"{id}\" data-{kind}=\"{now}\" \
                 preserveAspectRatio=\"none\" aria-hidden=\"true\"><polyline points=\"\"/></svg>\
                 <figcaption></figcaption></figure>"
            ));
        }
        self.close("</section>");
    }

    /// Begins a table with these heads of its columns.
    pub(super) fn open_table(&mut self, caption: &str, heads: &[&str]) {
        self.open("<section><table>");
        self.text("<caption>", caption, "</caption>");
        self.open("<thead><tr>");
        for head in heads {
            self.text("<th scope=\"col\">", head, "</th>");
        }
        self.close("</tr></thead><tbody>");
    }

    /// A row of a table, of a class unless that is empty.
    pub(super) fn row(&mut self, class: &str, name: &str, cells: &[&str]) {
        match class {
            "" => self.open("<tr>"),
            class => self.open(&format!("<tr class=\"{class}\">")),
        }
        self.text("<th scope=\"row\">", name, "</th>");
        for cell in cells {
            self.text("<td>", cell, "</td>");
        }
        self.close("</tr>");
    }

    /// Ends a table.
    pub(super) fn close_table(&mut self) {
        self.close("</tbody></table></section>");
    }

    /// Begins a list of names and values.
    pub(super) fn open_list(&mut self, title: &str) {
        self.open("<section>");
        self.text("<h2>", title, "</h2>");
        self.close("<dl>");
    }

    /// A name and its value.
    pub(super) fn item(&mut self, name: &str, value: &str) {
        self.text("<div><dt>", name, "</dt>");
        self.text("<dd>", value, "</dd>");
        self.close("</div>");
    }

    /// Ends a list.
    pub(super) fn close_list(&mut self) {
        self.close("</dl></section>");
    }

    /// All of it.
    pub(super) fn end(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Html;

    #[test]
    fn texts_are_escaped_and_markup_is_not() {
        let mut html = Html::default();
        html.row("bad", "<b>\"a\"&", &["</td><script>"]);
        assert_eq!(
            html.end(),
            "<tr class=\"bad\"><th scope=\"row\">&lt;b&gt;&quot;a&quot;&amp;</th>\
             <td>&lt;/td&gt;&lt;script&gt;</td></tr>\n"
        );
        let mut html = Html::default();
        html.open_list("<");
        html.item("<", ">");
        html.close_list();
        html.open_table("<", &[">"]);
        html.close_table();
        html.card("<", ">", "&", None);
        let html = html.end();
        assert_eq!(html.matches("&lt;").count(), 4, "{html}");
        assert_eq!(html.matches("&gt;").count(), 3, "{html}");
    }
}
