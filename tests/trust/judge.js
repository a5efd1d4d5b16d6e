// Has sigstore's own JavaScript library judge a signature by a key: a bundle, the key in PEM and
// what was signed come from stdin as JSON. Exits with 0 where it is good, with 1 and why where not.
const { bundleFromJSON } = require('@sigstore/bundle');
const { toSignedEntity, toTrustMaterial, Verifier } = require('@sigstore/verify');
const { createPublicKey } = require('crypto');

const given = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const nobody = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [] };
const key = { publicKey: createPublicKey(given.key), validFor: () => true };
const none = { tlogThreshold: 0, ctlogThreshold: 0, tsaThreshold: 0, timestampThreshold: 0 };
try {
  const bundle = bundleFromJSON(given.bundle);
  const signed = toSignedEntity(bundle, Buffer.from(given.artifact, 'base64'));
  new Verifier(toTrustMaterial(nobody, () => key), none).verify(signed);
} catch (error) {
  console.error(`${error.code || error.name}: ${error.message}`);
  process.exit(1);
}
