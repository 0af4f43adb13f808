//! `${NAME}` in the text of a configuration file.

/// The text with each `${NAME}` replaced by what `lookup` gives for it. A `$` that no `{` follows stands for itself, and
/// `$${` for `${`. What is put in is never looked at again, and must be of one line: a variable cannot add a field.
///
/// # Errors
/// Line, from 1, and reason: a variable that is not set, a name that is none, a brace that is not closed.
pub(super) fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, (u64, String)> {
    let mut out = String::with_capacity(text.len());
    for (line, number) in text.split_inclusive('\n').zip(1..) {
        expand_line(line, &lookup, &mut out).map_err(|reason| (number, reason))?;
    }
    Ok(out)
}

fn expand_line(line: &str, lookup: &impl Fn(&str) -> Option<String>, out: &mut String) -> Result<(), String> {
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = after;
            continue;
        }
        let (name, after) = after.split_once('}').ok_or("a ${ that no } closes; write $${ for the characters")?;
        out.push_str(before);
        out.push_str(&value(name, lookup)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(())
}

fn value(name: &str, lookup: &impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
    if !is_name {
        return Err(format!("${{{name}}} names no environment variable; write $${{ for the characters"));
    }
    let value = lookup(name).ok_or_else(|| format!("the environment variable {name} is not set"))?;
    if value.contains(['\n', '\r']) {
        return Err(format!("the environment variable {name} has several lines"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        let known = [("POD_IP", "10.1.2.3"), ("TWICE", "${POD_IP}"), ("LINES", "a\nb: c")];
        known.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn variables_are_put_in_once_and_what_is_none_stays() {
        let expanded = expand("address: ${POD_IP}\nname: a-${TWICE}-$b $${x}\n", lookup);
        assert_eq!(expanded.unwrap(), "address: 10.1.2.3\nname: a-${POD_IP}-$b ${x}\n");
    }

    #[test]
    fn what_cannot_be_put_in_is_refused_with_its_line() {
        for (text, part) in [
            ("a: 1\nb: ${NONE}", "NONE is not set"),
            ("a: 1\nb: ${POD_IP", "that no } closes"),
            ("a: 1\nb: ${a b}", "names no environment variable"),
            ("a: 1\nb: ${LINES}", "has several lines"),
        ] {
            let (line, reason) = expand(text, lookup).unwrap_err();
            assert!(line == 2 && reason.contains(part), "{line}: {reason}");
        }
    }
}
