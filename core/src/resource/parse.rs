//! A file to its objects: each document by its kind, each error with file, line, field and reason.

use serde::{Deserialize, de::DeserializeOwned};

#[cfg(test)]
use super::kubernetes;
use super::{
    Body, Metadata, Object,
    slice::{self, EndpointSlice},
};

/// Why a document is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {}{reason}", if field.is_empty() { String::new() } else { format!("{field}: ") })]
pub struct ObjectError {
    /// The file.
    pub file: String,
    /// Line in the file, from 1.
    pub line: u64,
    /// The field as a path; empty: the document.
    pub field: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

/// One document of a file, with the line it begins at.
struct Document<'a> {
    file: &'a str,
    line: u64,
    text: String,
}

/// Parses all documents of a file. Each is a result of its own, with all that is wrong with it; the caller refuses the file if any is
/// an error.
#[must_use]
pub fn parse_documents(file: &str, text: &str) -> Vec<Result<Object, Vec<ObjectError>>> {
    documents(file, text).iter().map(Document::object).collect()
}

/// The same by the fields of the kinds alone: what a schema can hold, and not what fields say together.
///
/// # Errors
/// For each document, the first that is wrong with it.
pub fn read_documents(file: &str, text: &str) -> Vec<Result<Object, ObjectError>> {
    documents(file, text).iter().map(Document::read).collect()
}

/// Splits at lines that are `---` (YAML 1.2, 9.1.4); documents of nothing but comments are left out.
fn documents<'a>(file: &'a str, text: &str) -> Vec<Document<'a>> {
    let mut documents = vec![Document { file, line: 1, text: String::new() }];
    for (line, number) in text.split_inclusive('\n').zip(1u64..) {
        let bare = line.trim_end();
        if bare == "---" || bare.starts_with("--- #") {
            documents.push(Document { file, line: number + 1, text: String::new() });
        } else if let Some(document) = documents.last_mut() {
            document.text.push_str(line);
        }
    }
    let says = |text: &str| text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    documents.retain(|document| says(&document.text));
    documents
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: String,
    kind: String,
    #[serde(default)]
    metadata: Metadata,
}

/// A whole object; what servers add beside `spec` is let through unread.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Whole<T> {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "metadata")]
    _metadata: Metadata,
    #[serde(default = "Option::default")]
    spec: Option<T>,
    #[serde(default, rename = "status")]
    _status: serde::de::IgnoredAny,
}

impl Document<'_> {
    fn object(&self) -> Result<Object, Vec<ObjectError>> {
        let object = self.read().map_err(|error| vec![error])?;
        let faults = match &object.body {
            Body::FailoverPolicy(policy) => policy.faults(&object.metadata.namespace),
            _ => vec![],
        };
        if faults.is_empty() {
            return Ok(object);
        }
        Err(faults.into_iter().map(|(field, reason)| self.error(0, &field, reason)).collect())
    }

    fn read(&self) -> Result<Object, ObjectError> {
        let head: Head = self.parse()?;
        let body = self.body(&head)?;
        Ok(Object { line: self.line, metadata: head.metadata, body })
    }

    fn body(&self, head: &Head) -> Result<Body, ObjectError> {
        let group = head.api_version.split_once('/').map_or("", |(group, _)| group);
        Ok(match (group, head.kind.as_str()) {
            ("", "Service") => Body::Service(self.spec()?),
            ("", "Namespace") => Body::Namespace,
            ("discovery.k8s.io", "EndpointSlice") => Body::EndpointSlice(EndpointSlice {
                service: head.metadata.labels.get(slice::SERVICE).cloned(),
                ..self.parse()?
            }),
            ("multicluster.x-k8s.io", "ServiceExport") => Body::ServiceExport(self.optional_spec()?),
            ("networking.istio.io", "VirtualService") => Body::VirtualService(self.spec()?),
            ("networking.istio.io", "DestinationRule") => Body::DestinationRule(self.spec()?),
            ("isthmus.dev", "MeshCluster") => Body::MeshCluster(self.optional_spec()?),
            ("isthmus.dev", "FailoverPolicy") => Body::FailoverPolicy(Box::new(self.spec()?)),
            (_, kind) => {
                let reason = format!("{} of {} is not supported by this release", kind, head.api_version);
                return Err(self.error(0, "kind", reason));
            }
        })
    }

    fn spec<T: DeserializeOwned>(&self) -> Result<T, ObjectError> {
        let spec = self.parse::<Whole<T>>()?.spec;
        spec.ok_or_else(|| self.error(0, "spec", "it is missing".into()))
    }

    fn optional_spec<T: DeserializeOwned + Default>(&self) -> Result<T, ObjectError> {
        Ok(self.parse::<Whole<T>>()?.spec.unwrap_or_default())
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, ObjectError> {
        let mut field = String::new();
        let parsed = serde_saphyr::with_deserializer_from_str(&self.text, |deserializer| {
            serde_path_to_error::deserialize(deserializer).map_err(|error| {
                field = error.path().to_string();
                error.into_inner()
            })
        });
        parsed.map_err(|error| {
            let line = error.location().map_or(0, |location| self.line_at(location.span().offset()));
            let field = if field == "." { "" } else { &field };
            let written = self.text.lines().nth(line).unwrap_or_default();
            self.error(line as u64, field, worded(&plain(&error.without_snippet().to_string()), written))
        })
    }

    /// Lines that end before a character: counted as editors and `grep -n` do. YAML itself begins one after a lone
    /// carriage return too (YAML 1.2, 5.4).
    fn line_at(&self, offset: u64) -> usize {
        let before = self.text.chars().take(usize::try_from(offset).unwrap_or(usize::MAX));
        before.filter(|character| *character == '\n').count()
    }

    fn error(&self, line: u64, field: &str, reason: String) -> ObjectError {
        ObjectError { file: self.file.to_owned(), line: self.line + line, field: field.to_owned(), reason }
    }
}

/// One line, without the parser's own position, which counts from the document.
fn plain(reason: &str) -> String {
    let first = reason.lines().next().unwrap_or_default();
    let end = first.find(" at line ").unwrap_or(first.len());
    let text = first.get(..end).unwrap_or(first);
    let begin = text.strip_prefix("line ").and_then(|rest| rest.split_once(": ")).map_or(text, |(_, rest)| rest);
    begin.trim().to_owned()
}

/// The parser names Rust's types where a number or a truth is not one; people get what they wrote and what would fit.
fn worded(reason: &str, written: &str) -> String {
    let fits = match reason.strip_prefix("invalid ") {
        Some("u8") => "a whole number from 0 to 255",
        Some("u16") => "a whole number from 0 to 65535",
        Some("u32" | "u64" | "usize") => "a whole number, 0 or more",
        Some("i8" | "i16" | "i32" | "i64") => "a whole number",
        Some("f32" | "f64") => "a number",
        Some("bool" | "boolean") => "true or false",
        _ => return reason.to_owned(),
    };
    // An API server's objects come as JSON; nobody wrote its marks.
    let written = written.trim().trim_start_matches("- ").trim_end_matches(',').replace('"', "");
    format!("{written:?} is not {fits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  namespace: n\nspec:\n  ports:\n    - port: 80\n      targetPort: 8080\n";

    #[test]
    fn documents_of_a_file_are_read_each_by_its_kind() {
        let text = format!(
            "# only words\n---\n{SERVICE}---\napiVersion: multicluster.x-k8s.io/v1alpha1\nkind: ServiceExport\nmetadata:\n  name: a\n  namespace: n\n"
        );
        let objects: Vec<_> = parse_documents("a.yaml", &text).into_iter().map(Result::unwrap).collect();
        assert_eq!(objects.len(), 2);
        assert_eq!((objects[0].line, objects[1].line), (3, 13));
        let Body::Service(spec) = &objects[0].body else { panic!("{objects:?}") };
        assert_eq!(spec.ports[0].target_port, Some(kubernetes::TargetPort::Number(8080)));
    }

    #[test]
    fn an_error_names_file_line_field_and_reason() {
        let text = format!("{SERVICE}---\n{}", SERVICE.replace("port: 80\n", "port: eighty\n"));
        let results = parse_documents("a.yaml", &text);
        assert!(results[0].is_ok());
        let error = results[1].clone().unwrap_err().remove(0);
        assert_eq!((error.file.as_str(), error.field.as_str()), ("a.yaml", "spec.ports[0].port"), "{error}");
        assert_eq!(error.line, 10 + 8, "{error}");
        assert_eq!(error.reason, "\"port: eighty\" is not a whole number from 0 to 65535");
    }

    #[test]
    fn lines_are_those_that_an_editor_shows() {
        let wrong = SERVICE.replace("port: 80\n", "port: eighty\n");
        let with = |name: &str| wrong.replace("name: a\n", name);
        for (text, line) in [
            (with("name: a\n"), 8),
            (wrong.replace('\n', "\r\n"), 8),
            (with("name: \"a\r\r b\"\n"), 8),
            (with("name: \"\u{e4}\u{1f600}\u{2028}\u{85}\"\n"), 8),
            (with("name: a\n  ?\r\r0\n"), 5),
        ] {
            let error = parse_documents("a.yaml", &text)[0].clone().unwrap_err().remove(0);
            assert_eq!(error.line, line, "{text:?}: {error}");
        }
    }

    #[test]
    fn a_target_port_is_a_number_or_the_name_of_a_containers_port() {
        let read = |port: &str| {
            let text = SERVICE.replace("targetPort: 8080", &format!("targetPort: {port}"));
            match parse_documents("a.yaml", &text).remove(0).map_err(|mut errors| errors.remove(0))?.body {
                Body::Service(mut spec) => Ok(spec.ports.remove(0).target_port.unwrap()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(read("http-1"), Ok(kubernetes::TargetPort::Name("http-1".into())));
        for wrong in ["70000", "-1", "Http", "a-name-of-16-byt", "a--b", "\"\""] {
            let error: ObjectError = read(wrong).unwrap_err();
            assert_eq!(error.field, "spec.ports[0].targetPort", "{error}");
            assert!(error.reason.contains("is no port"), "{error}");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_not_ignored() {
        let route = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: a\nspec:\n  hosts: [a]\n  http:\n    - mirror:\n        host: b\n";
        let error = parse_documents("a.yaml", route)[0].clone().unwrap_err().remove(0);
        assert!(error.field.contains("mirror") && error.reason.contains("not supported"), "{error}");
        let misspelt = route.replace("mirror", "mirrror");
        let error = parse_documents("a.yaml", &misspelt)[0].clone().unwrap_err().remove(0);
        assert!(error.to_string().contains("mirrror"), "{error}");
        let filter = "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata:\n  name: a\n";
        assert_eq!(parse_documents("a.yaml", filter)[0].clone().unwrap_err()[0].field, "kind");
    }
}
