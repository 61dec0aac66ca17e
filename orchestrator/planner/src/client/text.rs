//! Takes a model's thinking out of its text.
//!
//! Does not read the text otherwise: fences and prose around JSON are the plan parser's business.

/// The text after the model's thinking: `<think>…</think>` at the beginning, also when the server's template swallowed
/// the opening tag or the thinking never ended.
pub(crate) fn without_thinking(text: &str) -> &str {
    const OPEN: &str = "<think>";
    const CLOSE: &str = "</think>";
    let mut trimmed = text.trim_start();
    while let Some(thinking) = trimmed.strip_prefix(OPEN) {
        trimmed = match thinking.split_once(CLOSE) {
            Some((_, rest)) => rest.trim_start(),
            None => "",
        };
    }
    // Inside JSON the tag is a part of somebody's text.
    if trimmed.starts_with(['{', '[', '`']) {
        return trimmed;
    }
    match trimmed.split_once(CLOSE) {
        Some((before, rest)) if !before.contains(OPEN) => rest.trim_start(),
        _ => trimmed,
    }
}

#[cfg(test)]
mod tests {
    use super::without_thinking;

    #[test]
    fn thinking_goes_and_the_rest_stays() {
        for (text, rest) in [
            ("plain", "plain"),
            ("<think>hm</think>\n{}", "{}"),
            ("<think>a</think><think>b</think> c", "c"),
            ("hm, so</think>\n{}", "{}"),
            ("<think>never ends", ""),
            ("{\"a\":\"</think>\"}", "{\"a\":\"</think>\"}"),
            ("write <think> and </think>", "write <think> and </think>"),
        ] {
            assert_eq!(without_thinking(text), rest, "{text}");
        }
    }
}
