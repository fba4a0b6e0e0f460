// Keyv's suite for storage adapters, over its Redis adapter.
import keyvTestSuite, { keyvIteratorTests } from "@keyv/test-suite";
import KeyvRedis from "@keyv/redis";
import Keyv from "keyv";
import * as test from "vitest";

const store = () => new KeyvRedis(process.env.REDIS_URL);

keyvTestSuite(test, Keyv, store);
keyvIteratorTests(test, Keyv, store);
