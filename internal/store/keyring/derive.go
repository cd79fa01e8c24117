package keyring

import (
	"crypto/hmac"
	"crypto/sha256"
)

// Derive makes a secret of 32 bytes for a purpose: HMAC-SHA256 of the purpose,
// keyed with the oldest key, so that it stays the same when the ring rotates.
func (k *Keyring) Derive(purpose string) []byte {
	k.mu.RLock()
	defer k.mu.RUnlock()
	mac := hmac.New(sha256.New, []byte(k.keys[0]))
	mac.Write([]byte("derive: " + purpose))
	return mac.Sum(nil)
}

// Fingerprints tell keys apart without telling them: one for each, oldest first.
func (k *Keyring) Fingerprints() [][]byte {
	k.mu.RLock()
	defer k.mu.RUnlock()
	prints := make([][]byte, len(k.keys))
	for i, key := range k.keys {
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte("fingerprint"))
		prints[i] = mac.Sum(nil)
	}
	return prints
}
