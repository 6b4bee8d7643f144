package ratelimit_test

import (
	"context"
	"fmt"
	"time"

	"extauthz/ratelimit"
	"extauthz/ratelimit/memory"
)

func ExampleLimiter() {
	now := time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	var limiter ratelimit.Limiter = memory.New(func() time.Time { return now })
	subject := ratelimit.Subject{Key: "key_acme"}
	charges := []ratelimit.Charge{{Name: "requests", Limit: 2, Duration: time.Minute, Cost: 1}}
	for range 3 {
		result, err := limiter.Take(context.Background(), subject, charges)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(result.Limited(), result.Limits[0].Remaining, result.RetryAfter())
		now = now.Add(10 * time.Second)
	}
	// Output:
	// false 1 0s
	// false 0 0s
	// true 0 40s
}

func ExampleParseCosts() {
	costs, err := ratelimit.ParseCosts("exports=5, requests")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(costs.Of("exports"))
	fmt.Println(costs.Of("requests"))
	fmt.Println(costs.Of("uploads"))
	// Output:
	// 5 true
	// 1 true
	// 0 false
}
