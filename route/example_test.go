package route_test

import (
	"errors"
	"fmt"

	"extauthz/route"
)

func ExampleTable_Match() {
	table, errs := route.New([]route.Rule{
		{PathPrefix: "/admin", Permissions: "admin"},
		{PathPrefix: "/documents", Methods: []string{"GET"}, Permissions: "documents.read"},
	})
	if len(errs) > 0 {
		fmt.Println(errs)
		return
	}
	for _, path := range []string{"/documents/7?format=pdf", "/x/../admin/users", "/administrator", "/x/..%2fadmin"} {
		rule, err := table.Match("api.example.com", "GET", path)
		switch {
		case errors.Is(err, route.ErrAmbiguous):
			fmt.Println(path, "is refused")
		case rule == nil:
			fmt.Println(path, "has no rule")
		default:
			fmt.Println(path, "requires", rule.Permissions)
		}
	}
	// Output:
	// /documents/7?format=pdf requires documents.read
	// /x/../admin/users requires admin
	// /administrator has no rule
	// /x/..%2fadmin is refused
}
