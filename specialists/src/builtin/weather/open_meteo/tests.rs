//! Weather from a service that behaves and from ones that do not.

use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::super::tests::{ask, context};
use super::super::Weather;
use super::*;

const PARIS: &str = r#"{"results":[
    {"name":"Paris","latitude":48.85,"longitude":2.35,"country":"France","country_code":"FR","admin1":"Île-de-France"},
    {"name":"Paris","latitude":33.66,"longitude":-95.55,"country":"United States","country_code":"US","admin1":"Texas"}]}"#;
const SPRINGFIELDS: &str = r#"{"results":[
    {"name":"Springfield","latitude":37.2,"longitude":-93.3,"country":"United States","country_code":"US","admin1":"Missouri"},
    {"name":"Springfield","latitude":39.8,"longitude":-89.6,"country":"United States","country_code":"US","admin1":"Illinois"},
    {"name":"Springfield","latitude":-33.4,"longitude":151.4,"country":"Australia","country_code":"AU","admin1":"New South Wales"}]}"#;
const RAIN: &str = r#"{"current":{"temperature_2m":12.3,"apparent_temperature":10.0,"relative_humidity_2m":80,"wind_speed_10m":14.2,"weather_code":3},
    "daily":{"time":["2025-11-20"],"weather_code":[61],"temperature_2m_max":[14.6],"temperature_2m_min":[-0.2],
    "precipitation_sum":[2.1],"precipitation_probability_max":[65]}}"#;

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A service that answers geocoding and forecast with these bytes, and remembers what it was asked. `None` hangs.
async fn fake(
    geocoding: Option<String>,
    forecast: Option<String>,
) -> (Weather, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut hanging: Vec<TcpStream> = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let line = String::from_utf8(head)
                .unwrap()
                .lines()
                .next()
                .unwrap()
                .to_owned();
            let answer = if line.contains("/v1/search") {
                &geocoding
            } else {
                &forecast
            };
            log.lock().unwrap().push(line);
            match answer {
                // The client may have gone already, as from an endless body.
                Some(bytes) => drop(stream.write_all(bytes.as_bytes()).await),
                None => hanging.push(stream),
            }
        }
    });
    let service = OpenMeteo::new(Some(&base), Some(&format!("{base}/")));
    (
        Weather {
            service: Some(service),
        },
        asked,
    )
}

async fn failure(geocoding: Option<String>, forecast: Option<String>) -> Failure {
    let (weather, _) = fake(geocoding, forecast).await;
    ask(&weather, json!({"city": "Paris"}), &context(1))
        .await
        .unwrap_err()
}

#[tokio::test]
async fn a_forecast_reads_as_a_sentence() {
    let (weather, asked) = fake(Some(ok(PARIS)), Some(ok(RAIN))).await;
    let result = ask(&weather, json!({"city": "Paris"}), &context(1))
        .await
        .unwrap();
    assert_eq!(
        result["text"],
        "In Paris, France, it is 12 °C with an overcast sky now; today's high is 15 °C, the low 0 °C, with a 65 % chance of rain or snow."
    );
    assert_eq!(
        (&result["date"], &result["source"]),
        (&json!("2025-11-20"), &json!("Open-Meteo"))
    );
    let asked = asked.lock().unwrap();
    assert!(
        asked[0].starts_with("GET /v1/search?name=Paris&"),
        "{asked:?}"
    );
    assert!(
        asked[1].contains("latitude=48.85&longitude=2.35") && asked[1].contains("forecast_days=1"),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_day_a_namesake_and_other_units_can_be_asked_for() {
    let (weather, asked) = fake(Some(ok(PARIS)), Some(ok(RAIN))).await;
    let params = json!({"city": "Paris, Texas", "date": "2025-11-20", "units": "imperial"});
    let result = ask(&weather, params, &context(1)).await.unwrap();
    assert!(
        result["text"]
            .as_str()
            .unwrap()
            .starts_with("In Paris, Texas, United States, expect light rain on 2025-11-20")
    );
    assert!(result.get("temperature").is_none());
    let asked = asked.lock().unwrap();
    assert!(
        asked[1].contains("latitude=33.66")
            && asked[1].contains("start_date=2025-11-20")
            && asked[1].contains("fahrenheit")
    );
}

#[tokio::test]
async fn the_answer_says_which_of_several_namesakes_it_means() {
    for (city, named) in [
        ("Springfield", "Springfield, Missouri, United States"),
        ("Springfield, IL", "Springfield, Illinois, United States"),
        (
            "Springfield, Illinois, USA",
            "Springfield, Illinois, United States",
        ),
        (
            "springfield, australia",
            "Springfield, New South Wales, Australia",
        ),
    ] {
        let (weather, _) = fake(Some(ok(SPRINGFIELDS)), Some(ok(RAIN))).await;
        let result = ask(&weather, json!({"city": city}), &context(1))
            .await
            .unwrap();
        let text = result["text"].as_str().unwrap();
        assert!(
            text.starts_with(&format!("In {named}, it is")),
            "{city}: {text}"
        );
        assert_eq!(result["units"]["temperature"], "°C");
    }
    let (weather, _) = fake(Some(ok(SPRINGFIELDS)), Some(ok(RAIN))).await;
    let failure = ask(&weather, json!({"city": "Springfield, Peru"}), &context(1)).await;
    assert!(failure.unwrap_err().message.contains("Springfield, Peru"));
}

#[tokio::test]
async fn several_days_are_told_one_by_one() {
    let two = r#"{"daily":{"time":["2025-11-20","2025-11-21"],"weather_code":[61,0],"temperature_2m_max":[14.6,9],
        "temperature_2m_min":[-0.2,1],"precipitation_sum":[2.1,0],"precipitation_probability_max":[65,null]}}"#;
    let (weather, asked) = fake(Some(ok(PARIS)), Some(ok(two))).await;
    let params = json!({"city": "Paris", "from": "2025-11-20", "to": "2025-11-21"});
    let result = ask(&weather, params, &context(1)).await.unwrap();
    assert_eq!(
        result["text"],
        "The weather to expect in Paris, France:\n\
         2025-11-20: light rain, 0 °C to 15 °C, a 65 % chance of rain or snow;\n\
         2025-11-21: a clear sky, 1 °C to 9 °C."
    );
    assert_eq!(
        (&result["days"][1]["high"], result.get("high")),
        (&json!(9.0), None)
    );
    let asked = asked.lock().unwrap();
    assert!(
        asked[1].contains("start_date=2025-11-20&end_date=2025-11-21"),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_city_that_is_not_found_is_the_tasks_failure() {
    let failure = failure(Some(ok(r#"{"generationtime_ms":0.3}"#)), None).await;
    assert_eq!(failure.code, ErrorCode::TaskFailed);
    assert!(failure.message.contains("Paris"));
}

#[tokio::test]
async fn nonsense_and_errors_are_the_services_failure() {
    let status = |status: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(2 * MAX_BODY));
    for (geocoding, forecast, code, says) in [
        (
            status("500 Internal Server Error", "oops"),
            ok(RAIN),
            ErrorCode::UpstreamFailed,
            "500",
        ),
        (
            ok("<html>"),
            ok(RAIN),
            ErrorCode::UpstreamFailed,
            "no forecast",
        ),
        (
            ok(PARIS),
            ok(r#"{"daily":{}}"#),
            ErrorCode::UpstreamFailed,
            "no forecast",
        ),
        (
            ok(PARIS),
            ok(&RAIN.replace("[14.6]", "[null]")),
            ErrorCode::UpstreamFailed,
            "without days",
        ),
        (
            ok(PARIS),
            status(
                "400 Bad Request",
                r#"{"error":true,"reason":"out of range"}"#,
            ),
            ErrorCode::UpstreamFailed,
            "out of range",
        ),
        (ok(PARIS), endless, ErrorCode::UpstreamFailed, "more than"),
        (
            status("302 Found\r\nlocation: http://169.254.169.254/", ""),
            ok(RAIN),
            ErrorCode::UpstreamFailed,
            "302",
        ),
        (
            ok(PARIS),
            status("503 Service Unavailable\r\nretry-after: 7", ""),
            ErrorCode::UpstreamUnavailable,
            "503",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{".to_owned(),
            ok(RAIN),
            ErrorCode::UpstreamUnavailable,
            "cannot be reached",
        ),
    ] {
        let failure = failure(Some(geocoding), Some(forecast)).await;
        assert_eq!(failure.code, code, "{failure}");
        assert!(failure.message.contains(says), "{failure}");
        assert_eq!(
            failure.retry_after_ms,
            says.contains("503").then_some(7_000)
        );
    }
}

#[tokio::test]
async fn no_network_and_silence_are_unavailability_with_a_way_out() {
    let (mut weather, _) = fake(None, None).await;
    weather.service.as_mut().unwrap().call_time = Duration::from_millis(50);
    let silent = ask(&weather, json!({"city": "Paris"}), &context(1))
        .await
        .unwrap_err();
    assert!(silent.message.contains("in time"), "{silent}");
    // Bound and closed again: nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let nobody = Weather {
        service: Some(OpenMeteo::new(Some(&format!("http://{free}")), None)),
    };
    let refused = ask(&nobody, json!({"city": "Paris"}), &context(1))
        .await
        .unwrap_err();
    for failure in [silent, refused] {
        assert_eq!(failure.code, ErrorCode::UpstreamUnavailable);
        assert!(failure.hint.unwrap().contains("--offline"));
    }
}
