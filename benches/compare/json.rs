//! JSON (RFC 8259): read from reports and from committed results, and written to them.

use std::fmt;

/// Lists and objects within each other that are read.
const DEPTH_MAX: usize = 16;

/// A value of JSON. Objects keep their order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// `null`, which reports have for what is not known.
    Null,
    /// `true` or `false`.
    Switch(bool),
    /// Any number.
    Number(f64),
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// An object.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// Reads one value and nothing else.
    ///
    /// # Errors
    ///
    /// What was expected, and at which byte.
    pub(crate) fn parse(text: &str) -> Result<Value, String> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        match reader.next() {
            None => Ok(value),
            Some(_) => Err(reader.expected("the end")),
        }
    }

    /// An object of these fields.
    pub(crate) fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
        Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).into())
    }

    /// A field of an object.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.fields().iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// The fields of an object; none of anything else.
    pub(crate) fn fields(&self) -> &[(String, Value)] {
        match self {
            Value::Object(fields) => fields,
            _ => &[],
        }
    }

    /// A field that is a list; empty where there is none.
    pub(crate) fn list(&self, name: &str) -> &[Value] {
        match self.get(name) {
            Some(Value::List(values)) => values,
            _ => &[],
        }
    }

    /// A field that is a number.
    ///
    /// # Errors
    ///
    /// The field that is missing.
    pub(crate) fn number(&self, name: &str) -> Result<f64, String> {
        match self.get(name) {
            Some(Value::Number(number)) => Ok(*number),
            _ => Err(format!("lacks the number \"{name}\"")),
        }
    }

    /// A field that is a string.
    ///
    /// # Errors
    ///
    /// The field that is missing.
    pub(crate) fn text(&self, name: &str) -> Result<&str, String> {
        match self.get(name) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(format!("lacks the text \"{name}\"")),
        }
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

/// In one line.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Switch(on) => write!(f, "{on}"),
            Value::Number(number) => write!(f, "{number}"),
            Value::Text(text) => write_text(f, text),
            Value::List(values) => {
                f.write_str("[")?;
                for (at, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if at > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
            Value::Object(fields) => {
                f.write_str("{")?;
                for (at, (name, value)) in fields.iter().enumerate() {
                    f.write_str(if at > 0 { "," } else { "" })?;
                    write_text(f, name)?;
                    write!(f, ":{value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

struct Reader<'a> {
    text: &'a str,
    /// Bytes that were read.
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, String> {
        if depth > DEPTH_MAX {
            return Err(self.expected("fewer brackets"));
        }
        match self.next() {
            Some(b'{') => {
                let mut fields = Vec::new();
                self.each(b'}', |reader| {
                    let name = reader.string()?;
                    reader.take(b':')?;
                    fields.push((name, reader.value(depth + 1)?));
                    Ok(())
                })?;
                Ok(Value::Object(fields))
            }
            Some(b'[') => {
                let mut values = Vec::new();
                self.each(b']', |reader| {
                    values.push(reader.value(depth + 1)?);
                    Ok(())
                })?;
                Ok(Value::List(values))
            }
            Some(b'"') => self.string().map(Value::Text),
            _ => self.word(),
        }
    }

    /// Reads what stands between the bracket here and the one that closes it.
    fn each(
        &mut self,
        close: u8,
        mut read: impl FnMut(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        self.at += 1;
        if self.next() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            read(self)?;
            match self.next() {
                Some(b',') => self.at += 1,
                _ => return self.take(close),
            }
        }
    }

    fn string(&mut self) -> Result<String, String> {
        self.take(b'"')?;
        let mut string = String::new();
        loop {
            let rest = &self.text[self.at..];
            let c = rest.chars().next().ok_or_else(|| self.expected("\""))?;
            self.at += c.len_utf8();
            match c {
                '"' => return Ok(string),
                '\\' => string.push(self.escaped()?),
                c => string.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, String> {
        let rest = &self.text[self.at..];
        let (c, length) = match rest.as_bytes().first() {
            Some(c @ (b'"' | b'\\' | b'/')) => (Some(char::from(*c)), 1),
            Some(b'n') => (Some('\n'), 1),
            Some(b't') => (Some('\t'), 1),
            Some(b'u') => {
                let digits = rest.get(1..5).and_then(|it| u32::from_str_radix(it, 16).ok());
                (digits.and_then(char::from_u32), 5)
            }
            _ => (None, 0),
        };
        let c = c.ok_or_else(|| self.expected("an escape"))?;
        self.at += length;
        Ok(c)
    }

    /// A number, or one of the three words.
    fn word(&mut self) -> Result<Value, String> {
        let rest = &self.text[self.at..];
        let is_part = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let word = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        let value = match word {
            "null" => Value::Null,
            "true" => Value::Switch(true),
            "false" => Value::Switch(false),
            _ => match word.parse::<f64>().ok().filter(|number| number.is_finite()) {
                Some(number) => Value::Number(number),
                None => return Err(self.expected("a value")),
            },
        };
        self.at += word.len();
        Ok(value)
    }

    /// The next byte that is not white space; stays before it.
    fn next(&mut self) -> Option<u8> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_ascii_start().len();
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Result<(), String> {
        if self.next() != Some(byte) {
            return Err(self.expected(&char::from(byte).to_string()));
        }
        self.at += 1;
        Ok(())
    }

    fn expected(&self, what: &str) -> String {
        format!("expected {what} at byte {}", self.at)
    }
}
