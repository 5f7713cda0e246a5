// A custom runtime in Go with nothing but the standard library.
//
//	CGO_ENABLED=0 go build -o bootstrap main.go
//	firelet deploy bootstrap --name go --runtime provided.al2023 --handler main
//
// With the module aws-lambda-go the loop below is one call; the contract is the same.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"
)

type request struct {
	Name string `json:"name"`
	Fail bool   `json:"fail"`
}

type answer struct {
	Hello  string `json:"hello"`
	LeftMs int64  `json:"leftMs"`
}

type failure struct {
	ErrorType    string `json:"errorType"`
	ErrorMessage string `json:"errorMessage"`
}

// handle is the function itself.
func handle(event request, deadline time.Time) (answer, error) {
	if event.Fail {
		return answer{}, errors.New("as told")
	}
	fmt.Println("from go")
	return answer{Hello: event.Name, LeftMs: time.Until(deadline).Milliseconds()}, nil
}

// serve takes one event from the Runtime API and reports what became of it.
func serve(base string) error {
	next, err := http.Get(base + "next")
	if err != nil {
		return err
	}
	defer next.Body.Close()
	body, err := io.ReadAll(next.Body)
	if err != nil {
		return err
	}
	milliseconds, err := strconv.ParseInt(next.Header.Get("Lambda-Runtime-Deadline-Ms"), 10, 64)
	if err != nil {
		return err
	}
	id := next.Header.Get("Lambda-Runtime-Aws-Request-Id")
	var event request
	if err := json.Unmarshal(body, &event); err != nil {
		return report(base+id+"/error", failure{"json.Error", err.Error()})
	}
	result, err := handle(event, time.UnixMilli(milliseconds))
	if err != nil {
		return report(base+id+"/error", failure{"Failure", err.Error()})
	}
	return report(base+id+"/response", result)
}

func report(url string, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	reply, err := http.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	_, err = io.Copy(io.Discard, reply.Body)
	return err
}

func main() {
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for {
		if err := serve(base); err != nil {
			log.Fatal(err)
		}
	}
}
