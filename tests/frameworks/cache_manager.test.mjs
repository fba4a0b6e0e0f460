// What applications do with cache-manager over Keyv's Redis adapter; the package ships no tests of its own.
import { createCache } from "cache-manager";
import KeyvRedis from "@keyv/redis";
import Keyv from "keyv";
import { afterEach, beforeEach, expect, test } from "vitest";

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

let cache;
beforeEach(async () => {
  cache = createCache({ stores: [new Keyv({ store: new KeyvRedis(process.env.REDIS_URL), namespace: "pages" })] });
  await cache.clear();
});
afterEach(() => cache.disconnect());

test("what is set is read", async () => {
  await cache.set("page", { title: "Ω", lines: ["a".repeat(20_000)] });
  expect(await cache.get("page")).toEqual({ title: "Ω", lines: ["a".repeat(20_000)] });
});

test("what is missing is undefined", async () => {
  expect(await cache.get("none")).toBeUndefined();
});

test("many are set and read at once", async () => {
  await cache.mset([{ key: "a", value: 1 }, { key: "b", value: "two", ttl: 60_000 }]);
  expect(await cache.mget(["a", "none", "b"])).toEqual([1, undefined, "two"]);
});

test("what is deleted is gone", async () => {
  await cache.set("a", 1);
  await cache.set("b", 2);
  await cache.set("c", 3);
  await cache.del("a");
  await cache.mdel(["b", "none"]);
  expect(await cache.mget(["a", "b", "c"])).toEqual([undefined, undefined, 3]);
});

test("a value ends at its ttl", async () => {
  await cache.set("short", 1, 50);
  await cache.set("long", 2, 60_000);
  await pause(150);
  expect(await cache.get("short")).toBeUndefined();
  expect(await cache.get("long")).toBe(2);
});

test("ttl tells when a value ends", async () => {
  const before = Date.now();
  await cache.set("long", 2, 60_000);
  const ends = await cache.ttl("long");
  expect(ends).toBeGreaterThan(before + 59_000);
  expect(ends).toBeLessThan(Date.now() + 61_000);
});

test("a value without ttl stays", async () => {
  await cache.set("forever", 1);
  expect(await cache.ttl("forever")).toBeUndefined();
  expect(await cache.get("forever")).toBe(1);
});

test("wrap loads once", async () => {
  let loads = 0;
  const load = async () => ({ load: ++loads });
  expect(await cache.wrap("user", load, 60_000)).toEqual({ load: 1 });
  expect(await cache.wrap("user", load, 60_000)).toEqual({ load: 1 });
  expect(loads).toBe(1);
});

test("wrap refreshes before the end", async () => {
  let loads = 0;
  const load = async () => ++loads;
  await cache.wrap("user", load, 2_000, 1_999);
  await pause(20);
  expect(await cache.wrap("user", load, 2_000, 1_999)).toBe(1);
  await pause(200);
  expect(await cache.get("user")).toBe(2);
});

test("a load that failed is not stored", async () => {
  await expect(cache.wrap("bad", async () => { throw new Error("down"); })).rejects.toThrow("down");
  expect(await cache.get("bad")).toBeUndefined();
});

test("clear empties its own namespace only", async () => {
  const other = createCache({ stores: [new Keyv({ store: new KeyvRedis(process.env.REDIS_URL), namespace: "other" })] });
  await cache.set("a", 1);
  await other.set("a", 2);
  await cache.clear();
  expect(await cache.get("a")).toBeUndefined();
  expect(await other.get("a")).toBe(2);
  await other.disconnect();
});

test("the iterator sees every key", async () => {
  await cache.mset([{ key: "a", value: 1 }, { key: "b", value: 2 }]);
  const found = [];
  for await (const pair of cache.stores[0].iterator("pages")) found.push(pair);
  expect(found.sort()).toEqual([["a", 1], ["b", 2]]);
});
