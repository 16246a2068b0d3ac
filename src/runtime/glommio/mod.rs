//! One pinned executor and its ring.
use super::Queue;
use super::buffer::PageBuffer;
use super::disk::{DiskError, Open, Persist, Space};
use super::net::{ConnectionId, Door, Event, ListenError};
use crate::base::units::{Nanos, UnixMillis};
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// One pinned executor and its ring.
#[derive(Clone)]
pub struct Shard {}

impl Shard {
    pub fn spawn(&self, _queue: Queue, _task: impl Future<Output = ()> + 'static) {
        unreachable!()
    }
    pub fn now(&self) -> Nanos {
        unreachable!()
    }
    pub fn unix_time(&self) -> UnixMillis {
        unreachable!()
    }
    pub async fn sleep(&self, _duration: Duration) {
        unreachable!()
    }
    pub async fn yield_now(&self) {
        unreachable!()
    }
    pub fn should_yield(&self) -> bool {
        unreachable!()
    }
    pub fn random_u64(&self) -> u64 {
        unreachable!()
    }
    pub fn simulated_delay(&self) -> bool {
        unreachable!()
    }
    pub fn net(&self) -> Net {
        unreachable!()
    }
    pub fn disk(&self, _root: &Path) -> Disk {
        unreachable!()
    }
}

#[derive(Clone)]
pub struct Disk {}

impl Disk {
    pub async fn create_dir(&self, _name: &str) -> Result<(), DiskError> {
        unreachable!()
    }
    pub async fn open(&self, _name: &str, _how: Open) -> Result<File, DiskError> {
        unreachable!()
    }
    pub async fn rename(&self, _from: &str, _to: &str) -> Result<(), DiskError> {
        unreachable!()
    }
    pub async fn remove(&self, _name: &str) -> Result<(), DiskError> {
        unreachable!()
    }
    pub async fn list(&self, _dir: &str) -> Result<Vec<String>, DiskError> {
        unreachable!()
    }
    pub async fn sync_dir(&self, _dir: &str) -> Result<(), DiskError> {
        unreachable!()
    }
    pub async fn lock(&self, _name: &str) -> Result<Lock, DiskError> {
        unreachable!()
    }
    pub async fn read_small(&self, _name: &str) -> Result<Vec<u8>, DiskError> {
        unreachable!()
    }
    pub async fn replace_small(&self, _name: &str, _bytes: &[u8]) -> Result<(), DiskError> {
        unreachable!()
    }
    pub async fn space(&self) -> Result<Space, DiskError> {
        unreachable!()
    }
}

#[derive(Clone)]
pub struct File {}

impl File {
    pub fn len(&self) -> u64 {
        unreachable!()
    }
    pub async fn read_at(&self, _offset: u64, _len: usize) -> Result<PageBuffer, DiskError> {
        unreachable!()
    }
    pub async fn read_bulk_at(&self, _offset: u64, _len: usize) -> Result<PageBuffer, DiskError> {
        unreachable!()
    }
    pub async fn write_at(
        &self,
        _offset: u64,
        _buffer: PageBuffer,
        _len: usize,
        _persist: Persist,
    ) -> (PageBuffer, Result<(), DiskError>) {
        unreachable!()
    }
    pub async fn sync(&self) -> Result<(), DiskError> {
        unreachable!()
    }
}

#[derive(Clone)]
pub struct Net {}

impl Net {
    pub fn listen(
        &self,
        _address: SocketAddr,
        _door: Door,
        _exclusive: bool,
    ) -> Result<SocketAddr, ListenError> {
        unreachable!()
    }
    pub fn stop_listening(&self) {
        unreachable!()
    }
    pub fn connect(&self, _address: SocketAddr) -> ConnectionId {
        unreachable!()
    }
    pub fn send(&self, _connection: ConnectionId, _buffer: Vec<u8>) {
        unreachable!()
    }
    pub fn pause(&self, _connection: ConnectionId) {
        unreachable!()
    }
    pub fn resume(&self, _connection: ConnectionId) {
        unreachable!()
    }
    pub fn close(&self, _connection: ConnectionId) {
        unreachable!()
    }
    pub async fn events(&self, _events: &mut Vec<Event>) {
        unreachable!()
    }
}

pub struct Lock {}

pub struct Lease {}

impl std::ops::Deref for Lease {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        unreachable!()
    }
}
