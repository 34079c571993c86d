//! The buffer's store: a ring of slots by extended sequence number, payload memory kept between packets.

use std::time::Instant;

use crate::rtp::reception::Position;

/// Packets that are held at most: 1.28 s at 20 ms.
pub(super) const CAPACITY: u64 = 64;

/// Octets that each slot has room for from the start: a packet of the telephone, or most of a codec whose packets differ
/// in length. A longer one makes its slot grow, once.
const ROOM: usize = 256;

/// One packet, waiting for its time.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) position: Position,
    /// Clock units that it plays; 0 for a packet that is no audio.
    pub(super) duration: u32,
    pub(super) arrival: Instant,
    pub(super) format: u8,
    pub(super) payload: Vec<u8>,
    occupied: bool,
}

/// The slots. A packet of sequence number `n` lies at `n % CAPACITY`.
#[derive(Debug, Default)]
pub(super) struct Ring {
    slots: Vec<Slot>,
    occupied: usize,
}

impl Ring {
    /// Stores a packet; `false` when its slot is taken.
    pub(super) fn put(
        &mut self,
        arrival: Instant,
        position: Position,
        duration: u32,
        (format, payload): (u8, &[u8]),
    ) -> bool {
        if self.slots.is_empty() {
            let empty = || {
                let payload = Vec::with_capacity(ROOM.max(payload.len()));
                Slot { position, duration: 0, arrival, format, payload, occupied: false }
            };
            self.slots = std::iter::repeat_with(empty).take(CAPACITY as usize).collect();
        }
        let slot = &mut self.slots[(position.sequence % CAPACITY) as usize];
        if slot.occupied {
            return false;
        }
        slot.payload.clear();
        slot.payload.extend_from_slice(payload);
        (slot.position, slot.duration, slot.arrival, slot.occupied) = (position, duration, arrival, true);
        slot.format = format;
        self.occupied += 1;
        true
    }

    /// The packet of this sequence number.
    pub(super) fn get(&self, sequence: u64) -> Option<&Slot> {
        let slot = self.slots.get((sequence % CAPACITY) as usize)?;
        (slot.occupied && slot.position.sequence == sequence).then_some(slot)
    }

    /// The first packet from this sequence number on.
    pub(super) fn first_from(&self, sequence: u64) -> Option<&Slot> {
        if self.occupied == 0 {
            return None;
        }
        (sequence..sequence + CAPACITY).find_map(|n| self.get(n))
    }

    /// Frees a packet's slot. Its payload stays readable with [`content`](Self::content) until the slot is reused.
    pub(super) fn free(&mut self, sequence: u64) -> bool {
        let held = self.get(sequence).is_some();
        if held {
            self.slots[(sequence % CAPACITY) as usize].occupied = false;
            self.occupied -= 1;
        }
        held
    }

    /// Format and payload of the packet that was freed last at this sequence number.
    pub(super) fn content(&self, sequence: u64) -> (u8, &[u8]) {
        self.slots.get((sequence % CAPACITY) as usize).map_or((0, &[]), |slot| (slot.format, &slot.payload))
    }

    /// Frees all; gives how many packets with audio waited.
    pub(super) fn clear(&mut self) -> u64 {
        let waiting = self.slots.iter().filter(|slot| slot.occupied && slot.duration > 0).count();
        self.slots.iter_mut().for_each(|slot| slot.occupied = false);
        self.occupied = 0;
        waiting as u64
    }

    pub(super) fn len(&self) -> usize {
        self.occupied
    }
}
