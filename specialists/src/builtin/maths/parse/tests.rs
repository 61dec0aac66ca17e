//! Expressions and their values.

use proptest::prelude::*;

use super::*;

fn shown(expression: &str) -> String {
    match evaluate(expression) {
        Ok(number) => number.show().0,
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn arithmetic_as_people_write_it() {
    for (expression, value) in [
        ("1 + 2 * 3", "7"),
        ("(1+2)*3", "9"),
        ("0.1 + 0.2", "0.3"),
        ("1/3 + 1/6", "0.5"),
        ("2^10", "1024"),
        ("2^3^2", "512"),
        ("-2^2", "-4"),
        ("2^-1", "0.5"),
        ("17 % 5", "2"),
        ("-5 mod 3", "1"),
        ("15% of 80", "12"),
        ("50% * 80", "40"),
        ("100 + 10%", "110"),
        ("80 - 25%", "60"),
        ("10%", "0.1"),
        ("1,234.5 * 2", "2469"),
        ("max(100,200)", "200"),
        ("2(3+4)", "14"),
        ("2 pi", "6.28318530718"),
        ("5!", "120"),
        ("1.5e3", "1500"),
        ("2 × 3 ÷ 4", "1.5"),
        ("3 x 4", "12"),
        ("what is 12 divided by 8", "1.5"),
        ("the square root of 16", "4"),
        ("5 squared plus 2 cubed", "33"),
        ("15 percent of 80", "12"),
        ("sqrt 2", "1.41421356237"),
        ("sqrt(1/4)", "0.5"),
        ("4^0.5", "2"),
        ("cbrt(27)", "3"),
        ("sin(pi)", "0"),
        ("cos 60°", "0.5"),
        ("log10(1000)", "3"),
        ("log(8, 2)", "3"),
        ("e^pi", "23.1406926328"),
        ("round(2.5)", "3"),
        ("round(-2.5)", "-3"),
        ("round(3.14159, 2)", "3.14"),
        ("ceil(1.2) + floor(-1.2)", "0"),
        ("mean(1, 2, 4)", "2.33333333333"),
        ("12345678901234567890 * 3", "37037036703703703670"),
        ("200000*(0.05/12)/(1-(1+0.05/12)^(-360))", "1073.64324602"),
    ] {
        assert_eq!(shown(expression), value, "{expression}");
    }
}

#[test]
fn what_is_no_arithmetic_is_refused_with_its_place() {
    for (expression, problem) in [
        ("", "ends"),
        ("2 +", "ends"),
        ("(2", "not closed"),
        ("2)", "')'"),
        ("2 3", "3"),
        ("foo(2)", "foo"),
        ("2 $ 3", "'$'"),
        ("1/0", "division by zero"),
        ("5 % 0", "division by zero"),
        ("0^-1", "division by zero"),
        ("tan(pi/2)", "division by zero"),
        ("10^400", "too large"),
        ("1e999", "too large"),
        ("200!", "too large"),
        ("9^9^9", "too large"),
        ("2.5!", "whole"),
        ("ln(0)", "logarithm"),
        ("asin(2)", "asin"),
        ("max()", "not expected"),
        ("mod(1)", "two arguments"),
        (&"(".repeat(500), "nested"),
        (&"-".repeat(500), "nested"),
        (&"2^".repeat(250), "nested"),
        (&"sqrt ".repeat(100), "nested"),
    ] {
        assert!(
            shown(expression).starts_with("error") && shown(expression).contains(problem),
            "{expression}: {}",
            shown(expression)
        );
    }
}

proptest! {
    #[test]
    fn invariant_no_text_makes_it_panic(text in "[0-9a-z+*/^%!(),. -]{0,60}|\\PC{0,60}") {
        let _ = evaluate(&text);
    }
}
