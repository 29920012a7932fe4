//! The cursor after each piece of a history.

use super::*;

fn at(event: u64) -> Cursor {
    Cursor::after(&format!("run:0:{}", event - 1)).unwrap()
}

fn piece(from: u64, to: u64) -> HistoryPiece {
    let mut text = String::new();
    let mut marks = Vec::new();
    for event in from..to {
        marks.push((event, text.len()));
        text += &event.to_string();
    }
    marks.push((u64::MAX, text.len()));
    HistoryPiece {
        before: at(from),
        from: at(from),
        to: at(to),
        text: text.into(),
        marks: marks.into(),
        read_at: Instant::now(),
        complete: true,
        ended: false,
    }
}

fn told(piece: &HistoryPiece, place: u64) -> (String, u64) {
    let text = match piece.rest(&at(place)) {
        Rest::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
        Rest::Nothing => "nothing".to_owned(),
        Rest::Missing => "missing".to_owned(),
    };
    (text, piece.leads_to(&at(place)).next_event)
}

#[test]
fn a_piece_leads_on_and_takes_nobody_back() {
    let piece = piece(2, 5);
    assert_eq!(told(&piece, 2), ("234".to_owned(), 5));
    assert_eq!(told(&piece, 4), ("4".to_owned(), 5));
    assert_eq!(told(&piece, 5), ("nothing".to_owned(), 5));
    assert_eq!(told(&piece, 7), ("nothing".to_owned(), 7));
    assert_eq!(told(&piece, 1).0, "missing");
}
