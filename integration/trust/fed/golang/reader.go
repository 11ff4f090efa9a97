// Reads documents as CNI's own programs do, for integration/trust/fed.
//
// A question is a letter and two documents, each with its length before it (four bytes, the highest
// first). The answer is a line of JSON.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"io"
	"log"
	"os"
	"reflect"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// As libcni's api.go has it; netns is there since 1.2.
type cachedInfo struct {
	Kind           string                 `json:"kind"`
	ContainerID    string                 `json:"containerId"`
	Config         []byte                 `json:"config"`
	IfName         string                 `json:"ifName"`
	NetworkName    string                 `json:"networkName"`
	NetNS          string                 `json:"netns,omitempty"`
	CniArgs        [][2]string            `json:"cniArgs,omitempty"`
	CapabilityArgs map[string]interface{} `json:"capabilityArgs,omitempty"`
	RawResult      map[string]interface{} `json:"result,omitempty"`
}

type attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// What is read of a configuration besides: GC's lists (since libcni 1.2), host-local's store.
type beside struct {
	IPAM struct {
		DataDir string `json:"dataDir"`
	} `json:"ipam"`
	Valid []attachment `json:"cni.dev/valid-attachments"`
	Other []attachment `json:"cni.dev/attachments"`
}

type answer struct {
	Error  string      `json:"error"`
	Same   bool        `json:"same"`
	Read   interface{} `json:"read,omitempty"`
	Beside *beside     `json:"beside,omitempty"`
}

func ask(letter byte, first, second []byte) (answer, error) {
	switch letter {
	case 'J': // any two documents: are they the same one?
		var one, other interface{}
		if err := json.Unmarshal(first, &one); err != nil {
			return answer{}, err
		}
		if err := json.Unmarshal(second, &other); err != nil {
			return answer{}, err
		}
		return answer{Same: reflect.DeepEqual(one, other)}, nil
	case 'N': // network configurations: do they say the same to a plugin?
		var one, other types.NetConf
		var more beside
		if err := json.Unmarshal(first, &one); err != nil {
			return answer{}, err
		}
		if err := json.Unmarshal(second, &other); err != nil {
			return answer{}, err
		}
		read := one
		one.Type, other.Type = "", ""
		said := answer{Same: reflect.DeepEqual(one, other), Read: read}
		if err := json.Unmarshal(first, &more); err == nil {
			said.Beside = &more
		}
		return said, nil
	case 'C': // an entry of libcni's cache
		var one cachedInfo
		err := json.Unmarshal(first, &one)
		return answer{Read: one}, err
	case 'R': // a Result, in the form of 1.0.0
		v, err := (&version.ConfigDecoder{}).Decode(first)
		if err != nil {
			return answer{}, err
		}
		result, err := version.NewResult(v, first)
		if err != nil {
			return answer{}, err
		}
		newest, err := current.NewResultFromResult(result)
		return answer{Read: newest}, err
	}
	log.Fatalf("no question %q", letter)
	return answer{}, nil
}

func document(in io.Reader) []byte {
	var size uint32
	if err := binary.Read(in, binary.BigEndian, &size); err != nil {
		log.Fatal(err)
	}
	read := make([]byte, size)
	if _, err := io.ReadFull(in, read); err != nil {
		log.Fatal(err)
	}
	return read
}

func main() {
	in, out := bufio.NewReader(os.Stdin), bufio.NewWriter(os.Stdout)
	say := json.NewEncoder(out)
	for {
		letter, err := in.ReadByte()
		if err == io.EOF {
			return
		} else if err != nil {
			log.Fatal(err)
		}
		first := document(in)
		said, err := ask(letter, first, document(in))
		if err != nil {
			said = answer{Error: err.Error()}
		}
		if err := say.Encode(said); err != nil {
			log.Fatal(err)
		}
		if in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				log.Fatal(err)
			}
		}
	}
}
