package gossip

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
)

// sealer is XAES-256-GCM (c2sp.org/XAES-256-GCM): AES-256-GCM under a key made
// for each message from the first half of a 24-byte random nonce.
//
// Plain AES-GCM with random 12-byte nonces is sound for 2^32 messages of one
// key. All members share the key, and 200 of them send some thousand messages a
// second: they would be there in weeks, and nobody would notice.
type sealer struct {
	block cipher.Block
	mask  [aes.BlockSize]byte // K1 of CMAC
}

const (
	keySize      = 32
	nonceSize    = 24
	sealOverhead = nonceSize + 16
)

var errSeal = errors.New("does not open under any key of the ring")

func newSealer(key []byte) (*sealer, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	s := &sealer{block: block}
	block.Encrypt(s.mask[:], s.mask[:])
	var carry byte
	for i := len(s.mask) - 1; i >= 0; i-- {
		s.mask[i], carry = s.mask[i]<<1|carry, s.mask[i]>>7
	}
	s.mask[len(s.mask)-1] ^= carry * 0x87
	return s, nil
}

// forNonce derives the cipher of one message.
func (s *sealer) forNonce(nonce []byte) cipher.AEAD {
	var key [keySize]byte
	for i := range 2 {
		half := key[i*aes.BlockSize:][:aes.BlockSize]
		copy(half, []byte{0, byte(i + 1), 'X', 0})
		copy(half[4:], nonce[:12])
		for j := range half {
			half[j] ^= s.mask[j]
		}
		s.block.Encrypt(half, half)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("gossip: AES refuses a key of 32 bytes: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("gossip: GCM refuses AES: " + err.Error())
	}
	return aead
}

// seal appends nonce, ciphertext and tag to dst. The same context must be given
// to open: it keeps a packet from passing as a stream, a question as an answer.
func (s *sealer) seal(dst, plain []byte, context string) []byte {
	var nonce [nonceSize]byte
	_, _ = rand.Read(nonce[:]) // never fails, by its contract
	dst = append(dst, nonce[:]...)
	return s.forNonce(nonce[:]).Seal(dst, nonce[12:], plain, []byte(context))
}

func (s *sealer) open(sealed []byte, context string) ([]byte, error) {
	if len(sealed) < sealOverhead {
		return nil, errSeal
	}
	nonce := sealed[:nonceSize]
	return s.forNonce(nonce).Open(nil, nonce[12:], sealed[nonceSize:], []byte(context))
}
