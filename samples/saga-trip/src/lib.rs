//! A saga: a trip is booked step by step, and when a step fails, the steps before it are undone in reverse.

use perennial_sdk::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Trip {
    city: String,
    /// Activities that fail, to see what happens then.
    #[serde(default)]
    failing: Vec<String>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Booking {
    number: String,
    trip: Trip,
}

#[derive(Serialize)]
struct Itinerary {
    hotel: String,
    flight: String,
    car: String,
}

#[orchestration]
async fn book_trip(ctx: Context, trip: Trip) -> Result<Itinerary, Failure> {
    ctx.saga(async |saga| {
        let hotel = ctx.call(book_hotel, trip.clone()).await?;
        saga.on_failure(ctx.call(cancel_hotel, hotel.clone()));
        let flight = ctx.call(book_flight, trip.clone()).await?;
        saga.on_failure(ctx.call(cancel_flight, flight.clone()));
        let car = ctx.call(book_car, trip).await?;
        Ok(Itinerary {
            hotel: hotel.number,
            flight: flight.number,
            car: car.number,
        })
    })
    .await
}

#[activity]
fn book_hotel(ctx: ActivityContext, trip: Trip) -> Result<Booking, Failure> {
    book(&ctx, trip, "hotel")
}

#[activity]
fn book_flight(ctx: ActivityContext, trip: Trip) -> Result<Booking, Failure> {
    book(&ctx, trip, "flight")
}

#[activity]
fn book_car(ctx: ActivityContext, trip: Trip) -> Result<Booking, Failure> {
    book(&ctx, trip, "car")
}

#[activity]
fn cancel_hotel(ctx: ActivityContext, booking: Booking) -> Result<(), Failure> {
    check(&ctx, &booking.trip)
}

#[activity]
fn cancel_flight(ctx: ActivityContext, booking: Booking) -> Result<(), Failure> {
    check(&ctx, &booking.trip)
}

fn book(ctx: &ActivityContext, trip: Trip, what: &str) -> Result<Booking, Failure> {
    check(ctx, &trip)?;
    let number = format!("{what} in {}", trip.city);
    Ok(Booking { number, trip })
}

fn check(ctx: &ActivityContext, trip: &Trip) -> Result<(), Failure> {
    let name = ctx.activity();
    if trip.failing.iter().any(|failing| failing == name) {
        return Err(Failure::new("Refused", format!("{name} was refused")));
    }
    Ok(())
}

perennial_sdk::export! {
    orchestrations: [book_trip],
    activities: [book_hotel, book_flight, book_car, cancel_hotel, cancel_flight],
}

#[cfg(test)]
mod tests {
    use perennial_sdk::testing::Environment;

    use super::*;

    fn trip() -> Trip {
        Trip {
            city: "Rome".to_owned(),
            failing: Vec::new(),
        }
    }

    #[test]
    fn a_trip_is_booked_step_by_step() {
        let environment = Environment::of(perennial_sdk::exported!());
        let report = environment.start("BookTrip", trip()).finish();
        report.assert_called(&["BookHotel", "BookFlight", "BookCar"]);
        let booked: std::collections::BTreeMap<String, String> = report.output();
        assert_eq!(booked["flight"], "flight in Rome");
    }

    #[test]
    fn what_was_booked_is_cancelled_in_reverse_when_a_step_fails() {
        let sold_out = || Failure::new("SoldOut", "no car is left");
        let environment = Environment::of(perennial_sdk::exported!())
            .activity("BookCar", move |_: Trip| Err::<Booking, _>(sold_out()));
        let report = environment.start("BookTrip", trip()).finish();
        assert_eq!(report.failure().kind(), "SoldOut");
        report.assert_called(&[
            "BookHotel",
            "BookFlight",
            "BookCar",
            "CancelFlight",
            "CancelHotel",
        ]);
        let canceled: Booking = report.calls("CancelHotel")[0].input();
        assert_eq!(canceled.number, "hotel in Rome");
    }
}
