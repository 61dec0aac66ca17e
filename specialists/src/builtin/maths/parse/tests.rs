//! Expressions and their values.

use proptest::prelude::*;

use super::super::words::bare;
use super::*;

fn shown(expression: &str) -> String {
    match evaluate(bare(expression)) {
        Ok(evaluated) => evaluated.number.show().0,
        Err(error) => format!("error: {error}"),
    }
}

fn check(cases: &[(&str, &str)]) {
    for (expression, value) in cases {
        assert_eq!(shown(expression), *value, "{expression}");
    }
}

#[test]
fn arithmetic_in_signs() {
    check(&[
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
    ]);
}

#[test]
fn arithmetic_in_words() {
    check(&[
        ("200 minus 15%", "170"),
        ("the sum of 5, 10 and 15", "30"),
        ("sum of 1,200, 300, and 5", "1505"),
        ("sum(1,200)", "201"),
        ("the average of 3, 5 and 10", "6"),
        ("mean of -1 and 2 plus 3", "3.5"),
        ("median of 9, 1, 5 and 2", "3.5"),
        ("average(3, 5 and 10) * 2", "12"),
        ("maximum(100,200)", "200"),
        ("the largest of 3, 17 and 9", "17"),
        ("product of 3 and 4", "12"),
        ("the difference between 4 and 10", "6"),
        ("add 5 to 10", "15"),
        ("subtract 3 from 10", "7"),
        ("add 5% to 200", "210"),
        ("add 1, 2 and 3", "6"),
        ("subtract 10% from 200", "180"),
        ("add 10% to 20%", "0.3"),
        ("multiply 200 by 10%", "20"),
        ("average of 10% and 20%", "0.15"),
        ("10 less than 2 times 30", "50"),
        ("5 more than 10 times 2", "25"),
        ("10% more than 2 times 50", "110"),
        ("3 less than 5 more than 10", "12"),
        ("10% off 200 times 2", "360"),
        ("multiply 6 by 7", "42"),
        ("divide 10 by 4", "2.5"),
        ("sin(30 degrees)", "0.5"),
        ("the sine of 30 degrees", "0.5"),
        ("cosine of 1 radians", "0.540302305868"),
        ("tan 45°", "1"),
        ("the square root of 2", "1.41421356237"),
        ("square root of 16 plus 9", "13"),
        ("2 to the power of 10", "1024"),
        ("2 raised to the power of 3", "8"),
        ("2**3²", "512"),
        ("half of 90", "45"),
        ("two thirds of 90", "60"),
        ("three quarters of 80 minus one", "59"),
        ("twice 45 + 1", "91"),
        ("20% off 150", "120"),
        ("20% off $1,500.50", "1200.4"),
        ("10% more than 50", "55"),
        ("5 less than 12", "7"),
        ("15 per cent of 200", "30"),
        ("twelve times three", "36"),
        ("7 − 2 ÷ 4", "6.5"),
        ("the absolute value of -3", "3"),
        ("factorial of 5", "120"),
        ("Compute: 2 + 2", "4"),
    ]);
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
        ("2 $ 3", "'$' at character 3"),
        ("15% tip on 80", "'tip' at character 5"),
        ("the sum of 100,200,300", "several numbers"),
        ("average of 5", "several numbers"),
        ("the sum of 200 and 10%", "percentages beside numbers"),
        ("max(10%, 5)", "percentages beside numbers"),
        ("add 200 to 5%", "percentages beside numbers"),
        ("sum of 1, 2 + x", "'x' at character 15"),
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
        (&"1 less than ".repeat(100), "nested"),
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
