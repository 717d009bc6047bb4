// Access tokens as a stranger sees them: checked against the published key, and forged in the ways that must fail.

import assert from 'node:assert/strict';
import { createHmac, createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto';

const encode = (value) => Buffer.from(value).toString('base64url');
const encodeJson = (value) => encode(JSON.stringify(value));
const decodeJson = (text) => JSON.parse(Buffer.from(text, 'base64url'));

/** The claims of a token whose signature one of the published keys verifies; throws if none does. */
export function claimsCheckedWith(jwks, token) {
  const [head, body, signature] = token.split('.');
  const header = decodeJson(head);
  assert.equal(header.alg, 'EdDSA');
  const jwk = jwks.keys.find(({ kid }) => kid === header.kid);
  const key = createPublicKey({ key: jwk, format: 'jwk' });
  assert(verify(null, Buffer.from(`${head}.${body}`), key, Buffer.from(signature, 'base64url')), 'a wrong signature');
  return decodeJson(body);
}

/** Copies of a good token that no server may believe, by what is wrong with them. */
export function forgeries(jwks, token) {
  const [head, body, signature] = token.split('.');
  const header = decodeJson(head);
  const stranger = generateKeyPairSync('ed25519').privateKey;
  const strangers = encode(sign(null, Buffer.from(`${head}.${body}`), stranger));
  const unsigned = `${encodeJson({ ...header, alg: 'none' })}.${body}`;
  const shared = `${encodeJson({ ...header, alg: 'HS256' })}.${body}`;
  const mac = createHmac('sha256', Buffer.from(jwks.keys[0].x, 'base64url')).update(shared).digest('base64url');
  const someoneElse = encodeJson({ ...decodeJson(body), sub: '0190a000-0000-7000-8000-000000000000' });
  return {
    'signed by another key': `${head}.${body}.${strangers}`,
    'alg none': `${unsigned}.`,
    'the public key used as a shared secret': `${shared}.${mac}`,
    'the claims of someone else': `${head}.${someoneElse}.${signature}`,
  };
}
