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
