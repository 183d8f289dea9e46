import assert from "node:assert/strict";
import { test } from "node:test";
import { Retries } from "../src/retries.ts";

const BACKOFF = { initial: 0.5, longest: 5 };

test("waits double up to the longest", () => {
  const retries = new Retries(BACKOFF, null);
  assert.deepEqual(Array.from({ length: 6 }, () => retries.waitAfterFailure(0, 0)), [0.5, 1, 2, 4, 5, 5]);
  retries.reset();
  assert.equal(retries.waitAfterFailure(0, 0), 0.5);
});

test("chance shortens a wait by up to nine tenths", () => {
  assert.equal(new Retries(BACKOFF, null).waitAfterFailure(0, 1)?.toFixed(3), "0.050");
});

test("the last wait ends when the time is over, and then it is given up", () => {
  const retries = new Retries(BACKOFF, 1);
  assert.equal(retries.waitAfterFailure(10, 0), 0.5);
  assert.equal(retries.waitAfterFailure(10.5, 0), 0.5);
  assert.equal(retries.waitAfterFailure(11, 0), null);
});

test("what the gateway asked for is waited in full, or not at all", () => {
  assert.equal(new Retries(BACKOFF, null).waitAfterFailure(0, 1, 4), 6);
  assert.equal(new Retries(BACKOFF, 30).waitAfterFailure(0, 0, 30), 30);
  assert.equal(new Retries(BACKOFF, 30).waitAfterFailure(0, 0, 31), null);
});

test("a reader that may not wait never does", () => {
  assert.equal(new Retries(BACKOFF, 0).waitAfterFailure(0, 0), null);
});
